import socket
from pathlib import Path
from uuid import uuid4

import pytest

from app import PROJECT
from app.jobs.plain_redis import Away, ask, settings


def test_redis_answers(redis_url: str) -> None:
    key = f"test-{uuid4().hex}"
    assert ask(redis_url, ["SET", key, "caf\u00e9"], ["GET", key], ["GET", "nothing"], ["DEL", key])[1:3] == [
        "caf\u00e9",
        None,
    ]
    with pytest.raises(Away):
        ask(redis_url, ["NOSUCH"])
    assert ask(redis_url, ["EVAL", r"return '\255'", "0"]) == ["\udcff"]  # no text, and no reason to doubt Redis


def test_who_does_not_answer_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        with pytest.raises(Away):
            ask(url, ["PING"])
    with pytest.raises(Away):  # nobody is there any more
        ask(url, ["PING"])


@pytest.mark.parametrize("url", ["rediss://127.0.0.1:1/0", "redis://127.0.0.1:many/0", "?", ""])
def test_an_address_that_leads_nowhere_is_away(url: str) -> None:
    with pytest.raises(Away):
        ask(url, ["PING"])


def test_settings_are_those_of_the_environment_or_else_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "QUEUE_NAME", "ENV_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert settings()["QUEUE_NAME"] == PROJECT
    (tmp_path / ".env").write_text("queue_name=mine\nREDIS_URL=redis://of-the-file\n")
    monkeypatch.setenv("REDIS_URL", "redis://of-the-environment")
    found = settings()
    assert (found["QUEUE_NAME"], found["REDIS_URL"]) == ("mine", "redis://of-the-environment")

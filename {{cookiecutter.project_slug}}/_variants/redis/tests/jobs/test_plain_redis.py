import socket
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from app import PROJECT
from app.jobs.plain_redis import Away, ask, settings


@pytest.mark.parametrize("options", ["", "?health_check_interval=10"])
def test_redis_answers(redis_url: str, options: str) -> None:
    url, key = redis_url + options, f"test-{uuid4().hex}"
    text = "caf\u00e9\r\n" * 10_000
    commands = (["SET", key, text], ["GET", key], ["GET", "nothing"], ["MGET", key, "nothing"], ["TTL", key])
    _, got, nothing, both, _ = ask(url, *commands)
    assert (got, nothing, both) == (text, None, [text, None])
    assert ask(url, ["DEL", key]) in ([1], ["1"])
    with pytest.raises(Away):
        ask(url, ["NOSUCH"])


def test_a_user_a_password_and_a_database_are_those_of_the_url(redis_url: str) -> None:
    server, user = redis_url.removesuffix("/0"), f"test-{uuid4().hex}"
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.acl_setuser(user, enabled=True, passwords=["+p@ss/w"], commands=["+@all"], keys=["*"])
        try:
            url = server.replace("redis://", f"redis://{user}:p%40ss%2Fw@")
            assert ask(f"{url}/1", ["SET", user, "x"], ["ACL", "WHOAMI"]) == ["OK", user]
            assert ask(f"{server}/1", ["GET", user], ["DEL", user])[0] == "x"
            assert ask(server, ["GET", user]) == [None]
            with pytest.raises(Away):
                ask(url.replace("p%40", "q%40"), ["PING"])
        finally:
            client.acl_deluser(user)


@pytest.mark.parametrize("options", ["", "?health_check_interval=10"])
def test_who_does_not_answer_is_away(options: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0{options}"
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

import socket
from uuid import uuid4

import pytest

from app.jobs.plain_redis import Away, ask


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

import io
import logging
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import logs
from app.chat.providers.base import ModelError, Provider
from app.settings import Settings
from tests.providers import ScriptedProvider

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What is logged from now on, without the times."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.set_up("INFO")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written := io.StringIO())
    return lambda: [re.sub(r"^[-\d]+ [:,\d]+ ", "", line) for line in written.getvalue().splitlines()]


def test_fields_stand_behind_the_message_each_in_one_word(lines: Lines) -> None:
    fields = {"reason": "end", "tokens": 3, "comment": "two\nlines", "no": ""}
    logging.getLogger("app.usage").info("usage", extra=fields)
    assert lines() == [r"INFO app.usage [-] usage reason=end tokens=3 comment='two\nlines' no=''"]


def test_a_librarys_fields_are_left_out(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").warning("hello", extra={"color_message": "HELLO"})
    assert lines() == ["WARNING uvicorn.error [-] hello"]


def test_a_line_has_the_id_of_its_request(lines: Lines) -> None:
    token = logs.request_id.set("trace-7")
    logging.getLogger("app").info("hello")
    logs.request_id.reset(token)
    assert lines() == ["INFO app [trace-7] hello"]


def test_only_one_handler_is_ever_set_up(lines: Lines) -> None:
    logs.set_up("INFO")
    logging.getLogger("app").info("hello")
    assert lines() == ["INFO app [-] hello"]


FORGED = "x\n2026-01-01 INFO app [-] paid\r\x1b[2J\x9b\u2028\u202e"


def test_a_record_is_one_line_whatever_is_in_it(lines: Lines) -> None:
    token = logs.request_id.set(FORGED)
    logging.getLogger("app").info("hello %s", FORGED, extra={"field": FORGED})
    logging.getLogger("a.library").warning(FORGED)
    logs.request_id.reset(token)
    assert len(lines()) == 2
    assert all(line.isprintable() for line in lines())
    assert "hello x\\n2026-01-01 INFO app [-] paid\\r\\x1b[2J\\x9b\\u2028\\u202e field=" in lines()[0]


def test_half_of_a_character_is_escaped_too() -> None:
    """Not through a logger: pytest would send what it has captured to another process, if it runs in several."""
    record = logging.makeLogRecord({"msg": "half \ud800", "request_id": "-", "fields": ""})
    assert logs.OneLine(logs.FORMAT).format(record).endswith("half \\ud800")


def test_no_line_of_a_traceback_looks_like_a_record(lines: Lines) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("app").exception("failed")
    first, *others = lines()
    assert first == "ERROR app [-] failed"
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert "    raise ValueError(FORGED)" in "\n".join(others)


def test_what_a_caller_sends_forges_no_line(
    lines: Lines, settings: Settings, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    app = build(settings, ScriptedProvider(ModelError(FORGED)))

    @app.get("/fails/{text}")
    async def fails(text: str) -> None:
        raise RuntimeError(text)

    key = {b"Idempotency-Key": b"k\x9b\x85 2026-01-01 INFO app [-] paid", b"X-Request-ID": b"x] \x1b"}
    with TestClient(app, raise_server_exceptions=False) as client:
        client.get(f"/fails/{quote(FORGED, errors='surrogatepass')}", headers=key)
        client.post("/chat/stream", json={"question": "?"}, headers=key)
        for _ in range(2):
            client.post("/feedback", json={"stream_id": FORGED[:-1], "rating": 1, "comment": FORGED[:-1]}, headers=key)
    said = "\n".join(lines())
    assert all(
        words in said for words in ("GET '/fails/x\\n", "the model failed", "comment=", "task skipped: \"feedback:'")
    )
    assert all(line.isprintable() for line in lines())
    assert not [line for line in lines() if line.startswith("INFO app [")]

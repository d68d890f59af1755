import io
import json
import logging
import re
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from logging.config import dictConfig
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from uvicorn.config import LOGGING_CONFIG

from app import logs
from app.chat.providers.base import ModelError, Provider
from app.settings import Settings
from tests.providers import ScriptedProvider

Handler = logging.StreamHandler[Any]
Lines = Callable[[], list[str]]
Objects = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Handler:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.set_up("INFO", "text")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    return handler


@pytest.fixture
def written(handler: Handler) -> io.StringIO:
    """What is logged from now on."""
    handler.setStream(written := io.StringIO())
    return written


@pytest.fixture
def lines(written: io.StringIO) -> Lines:
    """Without the times."""
    return lambda: [re.sub(r"^[-\d]+ [:,\d]+ ", "", line) for line in written.getvalue().splitlines()]


@pytest.fixture
def objects(written: io.StringIO) -> Objects:
    """In JSON, as strict readers take it: no NaN, and no half of a character."""
    logs.set_up("INFO", "json")

    def strict(line: str) -> Any:
        found = json.loads(line, parse_constant=pytest.fail)
        assert json.dumps(found, ensure_ascii=False).encode()
        return found

    return lambda: [strict(line) for line in written.getvalue().splitlines()]


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


def test_a_line_names_the_caller_once(lines: Lines) -> None:
    token = logs.caller.set("alice")
    logging.getLogger("app").info("hello", extra={"reason": "end"})
    logging.getLogger("app").info("hello", extra={"caller": "bob"})
    logging.getLogger("a.library").warning("hello")
    logs.caller.reset(token)
    assert lines() == [
        "INFO app [-] hello reason=end caller=alice",
        "INFO app [-] hello caller=bob",
        "WARNING a.library [-] hello caller=alice",
    ]


def test_only_one_handler_is_ever_set_up(lines: Lines) -> None:
    logs.set_up("INFO", "text")
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
    record = logging.makeLogRecord({"msg": "half \ud800"})
    assert logs.TextLines().format(record).endswith("half \\ud800")


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


def test_an_object_has_when_what_whose_and_the_fields(objects: Objects) -> None:
    tokens = logs.request_id.set("trace-7"), logs.caller.set("alice")
    began = datetime.now(UTC)
    logging.getLogger("app.usage").info("usage of %s", "m", extra={"reason": "end", "tokens": 3, "tools": ["a", None]})
    logs.request_id.reset(tokens[0])
    logs.caller.reset(tokens[1])
    (found,) = objects()
    time = datetime.fromisoformat(found.pop("time"))
    assert (time - began).total_seconds() < 60
    assert time.tzname() == "UTC"
    whose = {"request_id": "trace-7", "caller": "alice", "trace_id": "-"}
    fields = {"reason": "end", "tokens": 3, "tools": ["a", None]}
    assert found == {"level": "INFO", "logger": "app.usage", "message": "usage of m"} | whose | fields


def test_a_traceback_is_a_field(objects: Objects) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("a.library").exception("failed", stack_info=True)
    (found,) = objects()
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].endswith(f"ValueError: {FORGED}")
    assert found["stack"].startswith("Stack (most recent call last):\n")


class Broken:
    def __str__(self) -> str:
        raise ValueError("no text")


class BrokenError(Exception):
    __str__ = Broken.__str__


RING: list[object] = []
RING.append(RING)
DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]
HOSTILE = {
    "half": "\ud800",
    "other half first": "\udc00\ud800",
    "an escape that is text": r"\ud800",
    "emoji": "\U0001f600\ud83d",
    "forged": FORGED,
    "nan": float("nan"),
    "nested": {"inf": [float("-inf")]},
    "bytes": b"\xff\n",
    "keys": {(1, 2): 3, b"k": "\n"},
    "error": ValueError("\n"),
    "broken": Broken(),
    "in a list": [Broken(), object()],
    "ring": RING,
    "deep": DEEP,
    "large": "x" * 1_000_000,
    "number": 10**5000,
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_one_record_is_one_line_whatever_it_holds(
    handler: Handler, written: io.StringIO, value: object, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not through a logger: pytest would take records in by its own handler, and some fail there."""
    logs.set_up("INFO", form)
    for name, message, arguments in (("app", value, ()), ("app", "%s", (value,)), ("a.library", "%d %d", (value,))):
        said = {"name": name, "msg": message, "args": arguments, "levelname": "INFO"}
        handler.handle(logging.makeLogRecord(said | {"field": value, "time": value, "k\n": 1}))
    assert capsys.readouterr().err == "", "logging has complained"
    assert len(written.getvalue().splitlines()) == 3
    assert written.getvalue().isascii() or form == "text"
    if form == "json":
        for line in written.getvalue().splitlines():
            found = json.loads(line, parse_constant=pytest.fail)
            assert json.dumps(found, ensure_ascii=False).encode()
            assert ("time_" in found, "field" in found) == ((found["logger"] == "app"),) * 2


def test_what_json_has_a_form_for_keeps_it_beside_what_it_has_none_for(objects: Objects) -> None:
    logging.getLogger("app").info("hello", extra={"nan": float("nan"), "n": 3, "list": [1], "escape": r"\ud800"})
    (found,) = objects()
    assert (found["nan"], found["n"], found["list"], found["escape"]) == ("nan", 3, [1], r"\ud800")


def test_an_error_without_a_text_is_shown(handler: Handler, written: io.StringIO) -> None:
    for form in ("text", "json"):
        logs.set_up("INFO", form)
        try:
            raise BrokenError
        except BrokenError as error:
            record = {"msg": "failed", "exc_info": (BrokenError, error, error.__traceback__)}
            handler.handle(logging.makeLogRecord(record))
    *_, json_line = written.getvalue().splitlines()
    assert "BrokenError: <exception str() failed>" in json.loads(json_line)["traceback"]


def test_a_field_with_a_name_that_is_taken_is_kept_under_another(objects: Objects) -> None:
    logging.getLogger("app").info("hello", extra={"time": 1, "level": 2, "logger": 3, "traceback": 4, "time_": 5})
    (found,) = objects()
    assert (found["level"], found["level_"], found["logger_"], found["traceback"]) == ("INFO", 2, 3, 4)
    assert {found["time_"], found["time__"]} == {1, 5}


def test_a_warning_of_python_is_a_record(objects: Objects) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # pytest has put its own way there since
        logs.set_up("INFO", "json")
        warnings.warn("two\nlines", stacklevel=1)
    (found,) = objects()
    assert (found["logger"], "two\nlines" in found["message"]) == ("py.warnings", True)


def test_what_would_go_to_the_terminal_by_another_way_comes_by_ours(
    objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That of uvicorn, and of a library that calls `basicConfig`. A handler for a file stays. So does the list, for it
    may be another logger's too: gunicorn's worker gives uvicorn's loggers its own."""
    root, server = logging.getLogger(), logging.getLogger("uvicorn")
    stray, to_file = logging.StreamHandler(io.StringIO()), logging.FileHandler(tmp_path / "log")
    monkeypatch.setattr(server, "handlers", [logging.StreamHandler(stray.stream), to_file])
    monkeypatch.setattr(server, "propagate", False)
    root.addHandler(stray)
    theirs = server.handlers
    logs.set_up("INFO", "json")
    assert len(theirs) == 2
    server.warning("hello")
    to_file.close()
    assert [found["message"] for found in objects()] == ["hello"]
    assert ((tmp_path / "log").read_text(), stray.stream.getvalue()) == ("hello\n", "")


def test_a_server_that_shows_no_requests_goes_on_so(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--no-access-log`."""
    requests = logging.getLogger("uvicorn.access")
    monkeypatch.setattr(requests, "handlers", [])
    monkeypatch.setattr(requests, "propagate", False)
    logs.set_up("INFO", "text")
    assert not requests.hasHandlers()


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ('%s - "%s %s HTTP/%s" %d', ("127.0.0.1:1", "GET", '/stream?text=marked" x', "1.1", 200)),
        ('%s - "WebSocket %s" [accepted]', ("127.0.0.1:1", "/websocket?text=marked")),
    ],
)
def test_a_line_about_a_request_has_no_query(
    handler: Handler, objects: Objects, message: str, arguments: tuple[object, ...]
) -> None:
    handler.handle(logging.makeLogRecord({"name": "uvicorn.access", "msg": message, "args": arguments}))
    (found,) = objects()
    assert "marked" not in json.dumps(found)
    assert found["message"].startswith('127.0.0.1:1 - "')
    if "status" in found:
        assert (found["client"], found["path"], found["status"]) == ("127.0.0.1:1", "/stream", 200)


def test_a_server_that_sets_up_its_logging_late_logs_by_our_handler_too(
    lines: Lines, settings: Settings, build: Callable[[Settings, Provider], FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fastapi run` imports the application first, and then begins uvicorn."""
    for name in LOGGING_CONFIG["loggers"]:
        for attribute in ("handlers", "propagate", "level"):  # what the next line and the server change
            monkeypatch.setattr(logging.getLogger(name), attribute, getattr(logging.getLogger(name), attribute))
    app = build(settings, ScriptedProvider())
    dictConfig(LOGGING_CONFIG)
    with TestClient(app):
        logging.getLogger("uvicorn.access").info("hello")
    assert "INFO uvicorn.access [-] hello" in lines()

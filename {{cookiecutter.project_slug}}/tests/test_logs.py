import io
import logging
import re
from collections.abc import Callable

import pytest

from app import logs

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

import logging
from typing import Any

import pytest

from app import logs


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What stands on stderr of what is logged from now on, without the times."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.set_up("INFO")
    return lambda: [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]


def test_fields_stand_behind_the_message_each_in_one_word(lines: Any) -> None:
    logging.getLogger("app.usage").info(
        "usage", extra={"reason": "end", "tokens": 3, "comment": "two\nlines", "no": ""}
    )
    assert lines() == [r"INFO app.usage [-] usage reason=end tokens=3 comment='two\nlines' no=''"]


def test_a_librarys_fields_are_left_out(lines: Any) -> None:
    logging.getLogger("uvicorn.error").warning("hello", extra={"color_message": "HELLO"})
    assert lines() == ["WARNING uvicorn.error [-] hello"]


def test_a_line_has_the_id_of_its_request(lines: Any) -> None:
    token = logs.request_id.set("trace-7")
    logging.getLogger("app").info("hello")
    logs.request_id.reset(token)
    assert lines() == ["INFO app [trace-7] hello"]


def test_only_one_handler_is_ever_set_up(lines: Any) -> None:
    logs.set_up("INFO")
    logging.getLogger("app").info("hello")
    assert lines() == ["INFO app [-] hello"]

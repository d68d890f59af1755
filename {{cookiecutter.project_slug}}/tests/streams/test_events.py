import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.streams.events import Done, Event, KeepAlive, Reasoning, Token, Tool, encode
from tests.sse import Received, parse

ANY_TEXT = st.text(st.characters())  # lone surrogates included


@given(ANY_TEXT, st.integers(1))
@example("a\nb\r\nc\rd", 1)
@example(" leading", 1)
@example("\u2028\u2029\u0085", 1)
@example("\ufeff\x00", 1)
@example("\U0001f600 \ud800", 1)
@example('data: "x"\n\n', 1)
@example("x" * 1_000_000, 1)
def test_a_token_is_one_data_line_and_comes_back_as_it_was(text: str, number: int) -> None:
    frame = encode(Token(text), number)
    assert parse(frame.decode("ascii")) == [Received("token", {"text": text}, str(number))]
    assert frame.count(b"\n") == 4
    assert b"\r" not in frame


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (Reasoning("h\nm"), {"text": "h\nm"}),
        (Tool("1", "find", "called", {"q": 1}), {"id": "1", "name": "find", "state": "called", "input": {"q": 1}}),
        (Tool("1", "find", "done", output=""), {"id": "1", "name": "find", "state": "done", "output": ""}),
        (Tool("1", "find", "failed"), {"id": "1", "name": "find", "state": "failed"}),
    ],
)
def test_reasoning_and_a_tool_on_the_wire(event: Event, data: dict[str, object]) -> None:
    """What a tool does not have is left out."""
    assert parse(encode(event, 7).decode("ascii")) == [Received(event.event_type, data, "7")]


def test_a_token_looks_as_the_general_encoder_would_write_it() -> None:
    class Other(Event):
        event_type = "token"

    other = Other()
    vars(other)["text"] = 'quotes " and \\ and \u00e9'
    assert encode(Token(vars(other)["text"]), 3) == encode(other, 3)


@pytest.mark.parametrize("character", ["\r", "\n", "\0"])
def test_a_name_or_an_id_that_would_break_a_frame_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="one line without NUL"):
        type("Broken", (Event,), {"event_type": f"to{character}ken"})
    for event in (Token("a"), Done()):
        with pytest.raises(ValueError, match="format code"):
            encode(event, f"1{character}2")  # type: ignore[arg-type]


def test_what_the_connection_adds_has_no_id() -> None:
    assert encode(Done("shutdown"), None) == b'event: done\ndata: {"reason":"shutdown"}\n\n'
    assert encode(Token("a"), None) == b'event: token\ndata: {"text":"a"}\n\n'


def test_a_keep_alive_is_a_comment() -> None:
    assert encode(KeepAlive(), None) == b": keep-alive\n\n"


def test_what_json_can_not_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(Done(float("nan")), 1)  # type: ignore[arg-type]
    assert json.loads(encode(Token("\ud800"), 1).split(b"data: ")[1]) == {"text": "\ud800"}

import json

import pytest

from app.streams.events import Done, KeepAlive, Token, encode
from tests.sse import Received, parse


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "a\nb\r\nc\rd",
        " leading",
        "\u2028\u2029\u0085",
        "\ufeff\x00",
        "\U0001f600",
        'data: "x"\n\n',
        "x" * 100_000,
    ],
)
def test_a_token_is_one_data_line_and_comes_back_as_it_was(text: str) -> None:
    frame = encode(Token(text), 7)
    assert parse(frame.decode()) == [Received("token", {"text": text}, "7")]
    assert frame.count(b"\n") == 4
    assert b"\r" not in frame


def test_a_lone_surrogate_is_escaped() -> None:
    assert json.loads(encode(Token("\ud800"), 1).split(b"data: ")[1]) == {"text": "\ud800"}


def test_what_the_connection_adds_has_no_id() -> None:
    assert encode(Done("shutdown"), None) == b'event: done\ndata: {"reason":"shutdown"}\n\n'


def test_a_keep_alive_is_a_comment() -> None:
    assert encode(KeepAlive(), None) == b": keep-alive\n\n"

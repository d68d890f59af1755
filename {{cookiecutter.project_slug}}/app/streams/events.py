"""The events of a stream, and their wire format (HTML standard, "Server-sent events")."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from typing import ClassVar

_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
TEXT, END = '{"text":', "}\n\n"


@dataclass
class Event:
    """Its fields are the event's data. `name` is what an `EventSource` listens for."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if set(cls.name) & set("\r\n\0"):
            raise ValueError(f"an event's name is one line without NUL, not {cls.name!r}")


@dataclass
class Status(Event):
    name = "status"
    state: str
    stream_id: str


@dataclass
class Token(Event):
    name = "token"
    text: str


@dataclass
class Error(Event):
    """`message` is for the reader of the stream: never the text of an exception."""

    name = "error"
    code: str
    message: str
    retryable: bool
    request_id: str


@dataclass
class Busy(Error):
    """An error that may be over `retry_after` seconds later."""

    retry_after: float


@dataclass
class Done(Event):
    name = "done"
    reason: str = "end"


@dataclass
class KeepAlive(Event):
    """Says nothing: a proxy or a browser sees that the connection lives."""

    name = "keep-alive"


class StreamFault(Exception):
    """Raised by a source of events to end its stream with `error`, then `done` for `reason`."""

    def __init__(self, error: Error, reason: str = "error") -> None:
        super().__init__(error.code)
        self.error = error
        self.reason = reason


Encoder = Callable[[Event, int | None], bytes]
"""From an event and its place in the stream, from 1, to what goes over the wire. None: the connection's own event."""


def encode(event: Event, id: int | None) -> bytes:  # noqa: A002
    """The contract's own dialect. JSON escapes every line break, so the data is always one line."""
    # Nearly all are tokens, and this is ten times as fast as what follows.
    if isinstance(event, Token) and isinstance(id, int):
        return f"event: token\nid: {id}\ndata: {TEXT}{quote(event.text)}{END}".encode()
    if isinstance(event, KeepAlive):
        return b": keep-alive\n\n"
    number = "" if id is None else f"id: {id:d}\n"
    return f"event: {event.name}\n{number}data: {_json(vars(event))}\n\n".encode()

"""The events of a stream, and their wire format (HTML standard, "Server-sent events")."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from typing import Any, ClassVar, Literal

_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
TEXT, END = '{"text":', "}\n\n"


@dataclass
class Event:
    """Its fields are the event's data. `event_type` is what an `EventSource` listens for."""

    event_type: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if set(cls.event_type) & set("\r\n\0"):
            raise ValueError(f"an event's type is one line without NUL, not {cls.event_type!r}")

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return vars(self)


@dataclass
class Status(Event):
    event_type = "status"
    state: str
    stream_id: str


@dataclass
class Token(Event):
    event_type = "token"
    text: str


@dataclass
class Reasoning(Event):
    """What a model thinks before it answers, or amid that. It is no part of the answer."""

    event_type = "reasoning"
    text: str


@dataclass
class Tool(Event):
    """A tool that the model uses. `id` is the same for its call and what came of it. `input` is what it was called
    with, and `output` what it gave, or why it failed: JSON, and None for nothing, which is left out."""

    event_type = "tool"
    id: str
    name: str
    state: Literal["called", "done", "failed"]
    input: Any = None
    output: Any = None

    def data(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class Error(Event):
    """`message` is for the reader of the stream: never the text of an exception."""

    event_type = "error"
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
    event_type = "done"
    reason: str = "end"


@dataclass
class KeepAlive(Event):
    """Says nothing: a proxy or a browser sees that the connection lives."""

    event_type = "keep-alive"


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
    return f"event: {event.event_type}\n{number}data: {_json(event.data())}\n\n".encode()

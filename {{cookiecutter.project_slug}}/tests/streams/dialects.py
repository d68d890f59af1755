"""Our own encoder, and another as other front ends want it: no ids, no event names, a `[DONE]` at the end."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from app.streams.events import Done, Encoder, Event, KeepAlive, encode
from tests.sse import names


@dataclass
class Number(Event):
    """JSON has no NaN: such a number can't be encoded."""

    event_type = "number"
    value: float


class Dialect(NamedTuple):
    encode: Encoder
    names: Callable[[str], list[str]]


def _encode_marked(event: Event, id: int | None) -> bytes:  # noqa: A002
    if isinstance(event, KeepAlive):
        return b":\n\n"
    data = (
        "[DONE]" if isinstance(event, Done) else json.dumps({"type": event.event_type, **event.data()}, allow_nan=False)
    )
    return f"data: {data}\n\n".encode()


def _marked_names(text: str) -> list[str]:
    data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return ["done" if line == "[DONE]" else json.loads(line)["type"] for line in data]


DIALECTS = {"ours": Dialect(encode, names), "marked": Dialect(_encode_marked, _marked_names)}

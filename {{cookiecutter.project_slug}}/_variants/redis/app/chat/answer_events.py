"""Events as Redis keeps them: `token {"text":"Hello"}`, the type and the data.

Two versions of the service may run side by side, so what this one does not know is kept, and passed on under its type.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from app.streams.events import Event

log = logging.getLogger(__name__)
_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def dump(event: Event) -> str:
    """Raises ValueError or TypeError if its data is no JSON."""
    return f"{event.event_type} {_json(event.data())}"


def dump_some(events: Iterable[Event], space: int, answer_id: str) -> list[str]:
    """The first events of the answer, as long as there is space for them. There is for one, whatever it takes."""
    dumped: list[str] = []
    for event in events:
        try:
            text = dump(event)
        except (TypeError, ValueError):
            log.exception("answer %s: event %s is no JSON", answer_id, event.event_type)
            text = event.event_type + " {}"  # places must not shift
        if dumped and space < len(text):
            break
        space -= len(text)
        dumped.append(text)
    return dumped


def load(text: str) -> Event:
    name, _, data = text.partition(" ")
    values: dict[str, Any] = json.loads(data)
    known = (kind for kind in _known().get(name, ()) if _required(kind) <= values.keys())
    if kind := next(known, None):
        event = kind.__new__(kind)
        vars(event).update(values)  # also fields that this version does not know
    else:
        event = _unknown(name)()
        vars(event)["values"] = values  # as attributes, one of them might hide `data`
    return event


@cache
def _known() -> dict[str, list[type[Event]]]:
    """By type; of those with the same type, that with the most fields comes first. At the first call, the application
    has been imported, and with it events of your own."""
    known: dict[str, list[type[Event]]] = {}
    for kind in sorted(_kinds(Event), key=lambda kind: -len(fields(kind))):
        known.setdefault(kind.event_type, []).append(kind)
    return known


def _kinds(kind: type[Event]) -> Iterator[type[Event]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)


def _required(kind: type[Event]) -> set[str]:
    return {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}


@cache
def _unknown(name: str) -> type[Event]:
    return type("UnknownEvent", (Event,), {"event_type": name, "data": lambda event: vars(event)["values"]})

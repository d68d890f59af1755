"""Reads event streams as the HTML standard says, as far as ours use it."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Received(NamedTuple):
    name: str
    data: dict[str, Any]
    id: str | None = None


def events(lines: Iterable[str]) -> Iterator[Received]:
    """Comments, which keep-alives are, are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Received(fields["event"], json.loads(fields["data"]), fields.get("id"))
            fields = {}


def parse(text: str) -> list[Received]:
    return list(events(text.split("\n")))


def names(text: str) -> list[str]:
    return [event.name for event in parse(text)]

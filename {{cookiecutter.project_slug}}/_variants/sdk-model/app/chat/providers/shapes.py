"""What a service has sent, as JSON that nobody has checked: servers that speak another's API differ in the details.

What may hold a piece of the answer and can't be read is a ModelError, for an answer with a hole in it looks whole. All
else is left out, and missed in a log at most.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx2

from app.chat.providers.base import ModelError
from app.chat.providers.failure import shortened


def at_once(response: httpx2.Response) -> bool:
    """Whether the service answers in one piece: it can't stream, or has failed under the status 200."""
    return response.headers.get("content-type", "").lower().startswith(("application/json", "text/html"))


async def the_one(response: httpx2.Response, secret: str) -> AsyncIterator[object]:
    """That piece. Raises ModelError if it is no JSON. `secret` is the key, which the service may repeat."""
    body = await response.aread()
    try:
        yield json.loads(body)
    except (ValueError, RecursionError):
        raise ModelError(f"the service answers what is no JSON: {shortened(response.text, secret)}") from None


def fields(value: object, name: str) -> Mapping[str, Any]:
    """Of an object. Some servers leave out what is empty, or send a null, or an empty list: such have none."""
    if isinstance(value, dict):
        return value
    if not value:
        return {}
    raise unreadable(name, value)


def items(value: object, name: str) -> Sequence[object]:
    """Of a list; none where it is left out, as above."""
    if isinstance(value, list):
        return value
    if not value:
        return ()
    raise unreadable(name, value)


def text(value: object, name: str) -> str:
    """As it is; of a list of parts, as some services send it, the texts among them, joined."""
    if not isinstance(value, list):
        return plain(value, name)
    parts = [fields(part, f"a part of {name}") for part in value]
    # The others are thoughts, or references to sources.
    return "".join(plain(part.get("text"), name) for part in parts if part.get("type", "text") == "text")


def plain(value: object, name: str) -> str:
    """A number is no text: `1.50` would come out as 1.5."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise unreadable(name, value)


def usage_of(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its counts of tokens; none where there are none that can be read, for they are never the price of an answer."""
    usage = value.get("usage")
    return usage if isinstance(usage, dict) else {}


def count(usage: Mapping[str, Any], name: str) -> int:
    found = usage.get(name)
    return found if isinstance(found, int) else 0


def unreadable(name: str, value: object) -> ModelError:
    """Without the value, which may be a piece of the answer: no log shows those."""
    return ModelError(f"the answer can't be read: {name} is of the type {type(value).__name__}")

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
from app.streams.events import Reasoning


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


def parts(value: object, name: str) -> Sequence[str | Reasoning]:
    """The texts and the thoughts in it: some services send a list of parts in place of a text. The other parts are
    references to sources, or tools that the service uses itself."""
    if not isinstance(value, list):
        return (plain(value, name),)
    found = (fields(part, f"a part of {name}") for part in value)
    return [
        thought(part.get("thinking")) if part.get("type") == "thinking" else plain(part.get("text"), name)
        for part in found
        if part.get("type", "text") in ("text", "thinking")
    ]


def thought(value: object) -> str | Reasoning:
    """A text, or a list of parts that have a text or the summary of one. An empty piece if there is none to be read."""
    if isinstance(value, list):
        texts = (part.get("text") or part.get("summary") for part in value if isinstance(part, dict))
        value = "".join(text for text in texts if isinstance(text, str))
    return Reasoning(value) if value and isinstance(value, str) else ""


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


def reasoning_tokens(details: object, name: str) -> Mapping[str, int]:
    """How many of the tokens of an answer are thoughts, if the service says that there are any."""
    found = count(details, name) if isinstance(details, dict) else 0
    return {"reasoning_tokens": found} if found else {}


def unreadable(name: str, value: object) -> ModelError:
    """Without the value, which may be a piece of the answer: no log shows those."""
    return ModelError(f"the answer can't be read: {name} is of the type {type(value).__name__}")

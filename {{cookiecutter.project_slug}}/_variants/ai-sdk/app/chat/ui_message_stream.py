"""The AI SDK's UI message stream, version 1: what `useChat` reads.

This is how an answer ends, and what a chat makes of it. `[DONE]` says that the answer is whole:

| the answer | the stream ends with | the chat's `status` | its last message |
|---|---|---|---|
| is whole | `text-end`, `finish`, `[DONE]` | `ready` | has the `metadata` `{"reason": "end"}` |
| was cut at a length limit, or the model refused | the same | `ready` | its reason is `length` or `refusal` |
| failed, took too long, or the server went down | `error` | `error` | keeps its text, in the state `streaming` |
| was stopped, or had no reader for too long | nothing | `ready` | the same |
| was cut with its connection | nothing, and no proper end | `error` | the same |

There is no `abort`. A chat that gets one is `ready`, and a part of an answer would pass for the whole. A chunk has only
keys that `ai` 5.0.0 knows, because that version throws at any other. So the reason is in the metadata, and not in the
`finishReason` of later versions.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quote

from app.streams.docs import stream_docs
from app.streams.events import Done, Error, Event, KeepAlive, Status, Token

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
_json = json.JSONEncoder(separators=(",", ":")).encode


class UIMessageEncoder:
    """Encodes one answer for one connection, from the answer's start. It has one part of text, which begins with the
    first token."""

    def __init__(self, shown: str = "", leaves_out: Sequence[str] = ()) -> None:
        """`shown` is the beginning of the answer that the page shows already. It is left out. `leaves_out` is what the
        model has not been given of the chat: the message's metadata say so."""
        self._shown = len(_units(shown))
        self._metadata = {"leftOut": leaves_out} if leaves_out else {}
        self._begun = False
        self._failed = False

    def __call__(self, event: Event, id: int | None) -> bytes:  # noqa: A002
        if isinstance(event, Token):
            text = self._behind_shown(event.text) if self._shown else event.text
            if not text:
                return b""
            start = b"" if self._begun else _chunk(type="text-start", id="text")
            self._begun = True
            return start + b'data: {"type":"text-delta","id":"text","delta":' + quote(text).encode() + b"}\n\n"
        if isinstance(event, KeepAlive):
            return b": keep-alive\n\n"
        if isinstance(event, Status):
            return _chunk(type="start", messageId=event.stream_id)
        if isinstance(event, Error):
            self._failed = True
            return _chunk(type="error", errorText=event.message)
        if isinstance(event, Done) and not self._failed and event.reason != "cancelled":
            end = _chunk(type="text-end", id="text") if self._begun else b""
            return (
                end
                + _chunk(type="finish", messageMetadata={"reason": event.reason} | self._metadata)
                + b"data: [DONE]\n\n"
            )
        return b""

    def _behind_shown(self, text: str) -> str:
        units = _units(text)
        behind = units[self._shown :]
        self._shown -= len(units) - len(behind)
        return behind.decode("utf-16-le", "surrogatepass")


def _units(text: str) -> bytes:
    """As JavaScript counts: two tokens may hold the halves of a character, which is one in the page's text."""
    return text.encode("utf-16-le", "surrogatepass")


def _chunk(**data: object) -> bytes:
    return f"data: {_json(data)}\n\n".encode()


DOCS = stream_docs(
    "A UI message stream, for `useChat` of the AI SDK: `start`; one part of text, as `text-start`, a `text-delta` for "
    "each piece, and `text-end`; `finish`, whose `messageMetadata.reason` is `end`, `length` or `refusal`; `[DONE]`. "
    "What fails ends in an `error`, whose `errorText` is for the reader, with neither `finish` nor `[DONE]`. What is "
    "stopped ends in nothing.",
    Status("thinking", "9f1c0c0e"),
    Token("Hello"),
    Token(" there"),
    Done(),
    encoder=UIMessageEncoder(),
)

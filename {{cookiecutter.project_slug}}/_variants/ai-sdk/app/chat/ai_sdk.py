"""The AI SDK's UI message stream, version 1: what `useChat` reads from `POST /api/chat`.

This is how an answer ends, and what a chat makes of it. `[DONE]` says that the answer is whole:

| the answer | the stream ends with | the chat's `status` | its last message |
|---|---|---|---|
| is whole | `text-end`, `finish`, `[DONE]` | `ready` | has the `metadata` `{"reason": "end"}` |
| was cut at a length limit, or the model refused | the same | `ready` | its reason is `length` or `refusal` |
| failed, took too long, or the server went down | `error` | `error` | keeps its text, in the state `streaming` |
| was stopped by the reader | nothing; the model is closed | `ready` | the same |
| was cut with its connection | nothing | `error` | the same |

There is no `abort`. A chat that gets one is `ready`, and a part of an answer would pass for the whole. A chunk has only
keys that `ai` 5.0.0 knows, because that version throws at any other. So the reason is in the metadata, and not in the
`finishReason` of later versions.
"""

import json
from json.encoder import encode_basestring_ascii as quote

from fastapi import APIRouter, Response

from app.chat.answer_stream import AnswerStream
from app.chat.dependencies import AnswersDep
from app.chat.ui_messages import UIChat
from app.dependencies import CallerDep
from app.streams.docs import stream_docs
from app.streams.events import Done, Error, Event, KeepAlive, Status, Token
from app.streams.response import EventStream

router = APIRouter(tags=["chat"])
_json = json.JSONEncoder(separators=(",", ":")).encode


class UIMessageEncoder:
    """Encodes one answer. It has one part of text, which begins with the first token."""

    def __init__(self) -> None:
        self._begun = False
        self._failed = False

    def __call__(self, event: Event, id: int | None) -> bytes:  # noqa: A002
        if isinstance(event, Token):
            start = b"" if self._begun else _chunk(type="text-start", id="text")
            self._begun = True
            return start + b'data: {"type":"text-delta","id":"text","delta":' + quote(event.text).encode() + b"}\n\n"
        if isinstance(event, KeepAlive):
            return b": keep-alive\n\n"
        if isinstance(event, Status):
            return _chunk(type="start", messageId=event.stream_id)
        if isinstance(event, Error):
            self._failed = True
            return _chunk(type="error", errorText=event.message)
        if isinstance(event, Done) and not self._failed:
            end = _chunk(type="text-end", id="text") if self._begun else b""
            return end + _chunk(type="finish", messageMetadata={"reason": event.reason}) + b"data: [DONE]\n\n"
        return b""


def _chunk(**data: object) -> bytes:
    return f"data: {_json(data)}\n\n".encode()


DOCS = stream_docs(
    "A UI message stream, for `useChat` of the AI SDK: `start`; one part of text, as `text-start`, a `text-delta` for "
    "each piece, and `text-end`; `finish`, whose `messageMetadata.reason` is `end`, `length` or `refusal`; `[DONE]`. "
    "What fails ends in an `error`, whose `errorText` is for the reader, with neither `finish` nor `[DONE]`.",
    Status("thinking", "9f1c0c0e"),
    Token("Hello"),
    Token(" there"),
    Done(),
    encoder=UIMessageEncoder(),
)


@router.post("/api/chat", response_class=EventStream, responses=DOCS)
async def ui_chat(chat: UIChat, answers: AnswersDep, caller: CallerDep) -> AnswerStream:
    """Streams the answer to the last message."""
    answer = answers.start(chat.for_the_model(), caller, grace=0)
    return AnswerStream(answer, UIMessageEncoder(), headers={"x-vercel-ai-ui-message-stream": "v1"})


@router.get("/api/chat/{chat_id}/stream", status_code=204)
async def resume_ui_chat(chat_id: str) -> Response:
    """`useChat` with `resume` asks this when its page loads. There is never an answer to resume.

    `ai` 6 and 7 are `ready` then; 5.0.0 stays `submitted`.
    """
    return Response(status_code=204)

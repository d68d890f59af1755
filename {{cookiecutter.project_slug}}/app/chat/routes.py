from collections.abc import AsyncGenerator
from secrets import token_hex
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from app.chat.dependencies import GenerateDep
from app.chat.providers.base import Message
from app.streams.docs import stream_docs
from app.streams.events import Done, Event, Status, Token
from app.streams.response import EventStream

router = APIRouter(tags=["chat"])
MAX_QUESTION_CHARS = 32_000
WORDS_DOCS = stream_docs(
    "`status`, a `token` for each word, and `done`.", Status("thinking", "9f1c0c0e"), Token("one"), Token("two"), Done()
)
CHAT_DOCS = stream_docs(
    "`status` at once; a `token` for each piece: their texts joined are the answer; an `error` where it fails, with "
    "`code`, `message`, `retryable` and `request_id`; and one `done`, always the last, whose `reason` is `end`, "
    "`length`, `refusal`, `error`, `timeout` or `shutdown`. A stream without it was cut.",
    Status("thinking", "9f1c0c0e"),
    Token("Hello"),
    Token(" there"),
    Done(),
)


class Turn(Message):
    role: Literal["user", "assistant"]


class Ask(BaseModel):
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    history: list[Turn] = []


@router.get("/stream", response_class=EventStream, responses=WORDS_DOCS)
async def stream(text: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
    """The smallest example: the words of `text`, one token each."""
    if last_event_id is not None:
        return Response(status_code=204)  # tells a browser's EventSource not to come back and replay
    stream_id = token_hex(16)

    async def words() -> AsyncGenerator[Event, None]:
        yield Status("thinking", stream_id)
        for word in text.split():
            yield Token(word)

    return EventStream(words(), headers={"X-Stream-ID": stream_id})


@router.post("/chat/stream", response_class=EventStream, responses=CHAT_DOCS)
async def chat(ask: Ask, generate: GenerateDep) -> EventStream:
    """Streams the answer: `status`, then `token` by `token`, an `error` if there is one, and one `done`."""
    generation = generate([*ask.history, Message(role="user", content=ask.question)])
    return EventStream(generation.events(), time_left=generation.time_left, headers={"X-Stream-ID": generation.id})

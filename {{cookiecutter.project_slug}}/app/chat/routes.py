from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from app.chat.generation import answer
from app.chat.providers.base import Message
from app.dependencies import ProviderDep, SettingsDep
from app.streams.events import Event, Status, Token
from app.streams.response import EventStream

router = APIRouter(tags=["chat"])
MAX_QUESTION_CHARS = 32_000


class Ask(BaseModel):
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    history: list[Message] = []


@router.get("/stream", response_class=EventStream)
async def stream(text: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
    """The smallest example: the words of `text`, one token each."""
    if last_event_id is not None:
        return Response(status_code=204)  # tells a browser's EventSource not to come back and replay
    stream_id = uuid4().hex

    async def words() -> AsyncGenerator[Event, None]:
        yield Status("thinking", stream_id)
        for word in text.split():
            yield Token(word)

    return EventStream(words(), headers={"X-Stream-ID": stream_id})


@router.post("/chat/stream", response_class=EventStream)
async def chat(ask: Ask, provider: ProviderDep, settings: SettingsDep) -> EventStream:
    """Streams the answer: `status`, then `token` by `token`, an `error` if there is one, and one `done`."""
    messages = [*ask.history, Message(role="user", content=ask.question)]
    stream_id = uuid4().hex
    events = answer(
        provider,
        messages,
        stream_id,
        seconds=settings.model_timeout_seconds,
        max_chars=settings.max_answer_chars,
    )
    return EventStream(events, headers={"X-Stream-ID": stream_id})

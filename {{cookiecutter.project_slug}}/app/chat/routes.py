"""The chat over HTTP: to ask, to read an answer again, to stop it."""

from collections.abc import AsyncGenerator
from secrets import token_hex
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field

from app import telemetry
from app.callers.caller import CallerDep
from app.chat.answer_stream import AnswerStream
from app.chat.dependencies import AnswersDep
from app.chat.providers.base import Items, Message
from app.dependencies import Digits, OneStream, OneStreamAgain
from app.streams.docs import stream_docs
from app.streams.events import Done, Event, Reasoning, Status, Token
from app.streams.response import EventStream, StreamRoute

router = APIRouter(tags=["chat"], route_class=StreamRoute)
MAX_QUESTION_CHARS = 32_000
WORDS_DOCS = stream_docs(
    "`status`, a `token` for each word, and `done`.", Status("thinking", "9f1c0c0e"), Token("one"), Token("two"), Done()
)
CHAT_DOCS = stream_docs(
    "`status` at once; a `token` for each piece: their texts joined are the answer; between them a `reasoning` for "
    "each piece of what the model thinks, and a `tool` for each that it calls and again, with the same `id`, for what "
    "that gives: its `state` is `called`, `done` or `failed`; an `error` where it fails, with `code`, `message`, "
    "`retryable` and `request_id`; and one `done`, always the last, whose `reason` is `end`, `length`, `refusal`, "
    "`error`, `timeout`, `cancelled` or `shutdown`. A stream without it was cut.",
    Status("thinking", "9f1c0c0e"),
    Reasoning("A greeting."),
    Token("Hello"),
    Token(" there"),
    Done(),
)


class Turn(Message):
    role: Literal["user", "assistant"]


class Ask(BaseModel):
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    history: Items[Turn] = []


@router.get("/stream", response_class=EventStream, responses=WORDS_DOCS, dependencies=[OneStream])
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


@router.post("/chat/stream", response_class=EventStream, responses=CHAT_DOCS, dependencies=[OneStream])
async def chat(
    ask: Ask,
    answers: AnswersDep,
    caller: CallerDep,
    request: Request,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> AnswerStream:
    """Streams the answer: `status`, then `token` by `token`, with what the model thinks and its tools between them, an
    `error` if there is one, and one `done`.

    The answer goes on for a while when its readers leave. Two requests with the same `Idempotency-Key` are one answer.
    """
    messages = [*ask.history, Message(role="user", content=ask.question)]
    answer = await answers.ask(messages, caller.name, key=idempotency_key)
    return AnswerStream(answer, headers={"Location": f"{request.scope.get('root_path', '')}/chat/stream/{answer.id}"})


@router.get("/chat/stream/{stream_id}", response_class=EventStream, responses=CHAT_DOCS, dependencies=[OneStreamAgain])
async def read_answer(
    stream_id: str,
    answers: AnswersDep,
    caller: CallerDep,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**31), Digits] = None,
    after: Annotated[int, Query(ge=0, le=2**31), Digits] = 0,
) -> Response:
    """Streams an answer again, from its start or behind the event `Last-Event-ID`, or `after`.

    204 says that there is no more.
    """
    answer = await answers.get(stream_id, caller.name)
    place = answer.goes_on_at(after if last_event_id is None else last_event_id)
    if place is None:
        return Response(status_code=204)  # a browser's EventSource does not come back then
    telemetry.reader_came_back()
    return AnswerStream(answer, after=place)


@router.delete("/chat/stream/{stream_id}", status_code=202)
async def stop_answer(stream_id: str, answers: AnswersDep, caller: CallerDep) -> Response:
    """Stops the answer for all of its readers. They get what was made, and `done` with the reason `cancelled`.

    One that has ended stays as it is.
    """
    answer = await answers.get(stream_id, caller.name)
    await answer.stop()
    return Response(status_code=202)

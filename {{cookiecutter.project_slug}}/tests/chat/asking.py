"""Asks a scripted model, where the service keeps its answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app.chat.answer import Answer
from app.chat.answers import Answers
from app.chat.providers.base import Message
from app.streams.events import Event

SOON = 0.02
WAIT_SECONDS = 10.0  # only a broken test waits that long
QUESTION = [Message(role="user", content="?")]
OTHER = [Message(role="user", content="!")]


Open = Callable[..., Awaitable[Answers]]


async def ask(answers: Answers, messages: Sequence[Message], caller: str, key: str | None = None) -> Answer:
    """An answer that is made here."""
    answer = await answers.ask(messages, caller, key=key)
    assert isinstance(answer, Answer)
    return answer


async def ended(answer: Answer) -> None:
    await asyncio.wait_for(asyncio.wait({answer.run.closed}), WAIT_SECONDS)


async def events_of(answer: Answer) -> Sequence[Event]:
    await ended(answer)
    return await answer.log.after(0, 0) or []

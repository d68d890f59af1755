"""The application of a project, with a model that does what the question says: `uvicorn scripted_app:app`."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from app.chat.providers.base import Finish, ModelError  # type: ignore[import-not-found]
from app.chat.providers.echo import Echo  # type: ignore[import-not-found]
from app.chat.room import chat  # type: ignore[import-not-found]
from app.main import create_app  # type: ignore[import-not-found]
from app.streams.events import Reasoning, Tool  # type: ignore[import-not-found]
from fastapi import FastAPI

log = logging.getLogger("app.scripted")
PAUSE_SECONDS = 0.02  # before each word
# What comes before each word of the answer to a question that begins with "think" or "use a tool", from the first.
ASIDES = [
    [Reasoning("Let me "), Reasoning("look it up.")],
    [
        Tool("call-1", "look_up", "called", {"term": "to be"}),
        Tool("call-1", "look_up", "done", output={"found": ["not to be"]}),
        Reasoning("That is the question."),
    ],
    [Tool("call-2", "index_document", "called"), Tool("call-2", "index_document", "failed", output="It is too long.")],
]


class Scripted(Echo):  # type: ignore[misc]
    async def stream(self, messages: Any, asker: Any) -> AsyncIterator[Any]:
        question = messages[-1].content
        log.info("asked: %s", question)
        try:
            if question == "fail at once" or not all(message.content for message in messages):
                raise ModelError("on purpose")
            said = super().stream(messages, asker)
            if question.startswith("count until "):
                said = count_until(question[12:])
            elif question.startswith(("think", "use a tool")):
                said = thinking(said, question)
            async for piece in said:
                if isinstance(piece, Finish):
                    if question == "fail":
                        raise ModelError("on purpose")
                    if question.startswith("wait"):
                        await asyncio.sleep(600)
                    piece = Finish({"be cut": "length", "refuse": "refusal"}.get(question, "end"), piece.usage)
                yield piece
        finally:
            log.info("closed: %s", question)


async def thinking(said: AsyncIterator[Any], question: str) -> AsyncIterator[Any]:
    """Thinks and uses tools before the answer's first words, or fails or waits amid that."""
    asides = iter(ASIDES)
    async for piece in said:
        for aside in next(asides, []):
            await asyncio.sleep(PAUSE_SECONDS)
            yield aside
            if question == "think and fail" or (question == "use a tool and fail" and isinstance(aside, Tool)):
                raise ModelError("on purpose")
            if question == "use a tool and wait" and isinstance(aside, Tool):
                await asyncio.sleep(600)
        if isinstance(piece, Finish):
            piece = Finish(piece.reason, {**piece.usage, "reasoning_tokens": 3})
        yield piece


async def count_until(file: str) -> AsyncIterator[Any]:
    """Says numbers, until there is such a file."""
    yield "You said: 0"
    for number in count(1):
        await asyncio.sleep(PAUSE_SECONDS)
        if os.path.exists(file):  # noqa: ASYNC240 - at once
            break
        yield f" {number}"
    yield Finish()


app: FastAPI = create_app(rooms=[chat(Scripted(PAUSE_SECONDS))])

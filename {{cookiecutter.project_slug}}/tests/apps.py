"""The application with routes that only tests need; served by `uvicorn tests.apps:app`."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from fastapi import BackgroundTasks

from app.chat.generation import Generation
from app.chat.room import chat
from app.dependencies import BackgroundDep
from app.main import create_app
from app.streams.events import Event, Status, Token
from app.streams.response import EventStream
from tests.providers import ScriptedProvider

log = logging.getLogger("app.tests")


class Talkative(ScriptedProvider):
    async def stream(self, messages):  # type: ignore[no-untyped-def]
        try:
            async for piece in super().stream(messages):
                yield piece
        finally:
            await asyncio.sleep(0.01)
            log.info("the model is closed")


app = create_app(rooms=[chat(Talkative("a", 60.0))])
echo = create_app(rooms=[chat()])


@app.post("/failing-task")
def failing_task(tasks: BackgroundTasks, background: BackgroundDep) -> None:
    tasks.add_task(background.run, broken)
    tasks.add_task(background.run, log.info, "the task after it ran")


@app.post("/long-task")
def long_task(tasks: BackgroundTasks, background: BackgroundDep) -> None:
    tasks.add_task(background.run, long)


@app.post("/failing-stream")
async def failing_stream() -> EventStream:
    failing = ScriptedProvider("a", RuntimeError("a model, on purpose"))
    return EventStream(Generation(failing, [], seconds=5, max_chars=9).events())


@app.post("/busy-stream")
async def busy_stream() -> EventStream:
    return EventStream(busy(None))


@app.post("/large-stream")
async def large_stream() -> EventStream:
    """Ends as soon as the server has taken it, which is long before a client that takes nothing has it."""
    return EventStream(busy(1))


@app.post("/stream-with-a-task")
async def stream_with_a_task(tasks: BackgroundTasks, background: BackgroundDep) -> EventStream:
    tasks.add_task(background.run, brief)
    return EventStream(busy(None))


async def busy(tokens: int | None) -> AsyncGenerator[Event, None]:
    """Never waits."""
    yield Status("thinking", "s")
    try:
        while tokens is None or tokens:
            yield Token("word " * (1000 if tokens is None else 1_000_000))
            tokens = tokens and tokens - 1
        log.info("a large stream is made")
    finally:
        await asyncio.sleep(0.01)
        log.info("the model is closed")


async def broken() -> None:
    raise RuntimeError("a task, on purpose")


async def brief() -> None:
    await asyncio.sleep(0.01)
    log.info("the task of the stream ran")


async def long() -> None:
    log.info("the long task began")
    await asyncio.sleep(60)

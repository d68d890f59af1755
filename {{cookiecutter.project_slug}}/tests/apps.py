"""The application with routes that only tests need; served by `uvicorn tests.apps:app`."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator

from fastapi import APIRouter, BackgroundTasks, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse

from app.chat.generation import Generation
from app.chat.room import chat
from app.dependencies import BackgroundDep
from app.main import create_app
from app.streams.events import Event, Status, Token
from app.streams.response import EventStream
from tests.providers import ScriptedProvider

log = logging.getLogger("app.tests")


class Talkative(ScriptedProvider):
    async def stream(self, messages, asker):  # type: ignore[no-untyped-def]
        try:
            async for piece in super().stream(messages, asker):
                yield piece
        finally:
            await asyncio.sleep(0.01)
            log.info("the model is closed")


class Thinking(ScriptedProvider):
    async def stream(self, messages, asker):  # type: ignore[no-untyped-def]
        try:
            while True:
                yield ""
        finally:
            log.info("the model is closed")


def stream_of(provider: ScriptedProvider) -> EventStream:
    generation = Generation(provider, [], caller="anonymous", seconds=5, max_chars=9)
    return EventStream(generation.events(), time_left=generation.time_left)


router = APIRouter()


@router.websocket("/websocket")
async def websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


@router.get("/fails")
async def fails() -> None:
    raise RuntimeError("a route, on purpose")


@router.post("/failing-task")
def failing_task(tasks: BackgroundTasks, background: BackgroundDep) -> None:
    tasks.add_task(background.run, broken)
    tasks.add_task(background.run, log.info, "the task after it ran")


@router.post("/long-task")
def long_task(tasks: BackgroundTasks, background: BackgroundDep) -> None:
    tasks.add_task(background.run, long)


@router.post("/failing-stream")
async def failing_stream() -> EventStream:
    return stream_of(ScriptedProvider("a", RuntimeError("a model, on purpose")))


@router.post("/busy-stream")
async def busy_stream() -> EventStream:
    return EventStream(busy())


@router.post("/large-stream")
async def large_stream(request: Request) -> EventStream:
    """Ends when the server has taken what a client that takes nothing has not."""

    async def events() -> AsyncGenerator[Event, None]:
        while not request.state.transport.get_write_buffer_size():
            yield Token("word " * 1000)
            await asyncio.sleep(0)
        log.info("a large stream is made")
        log.info("the model is closed")

    return EventStream(events())


@router.post("/exiting-stream")
async def exiting_stream(tasks: BackgroundTasks, background: BackgroundDep) -> EventStream:
    tasks.add_task(background.run, sys.exit, 3)
    tasks.add_task(background.run, exits)
    tasks.add_task(background.run, log.info, "the task after them ran")
    return stream_of(ScriptedProvider("a", SystemExit(3)))


@router.post("/thinking-stream")
async def thinking_stream() -> EventStream:
    """Its model is at work for ever, and never waits."""
    return stream_of(Thinking())


@router.post("/event")
async def one_event(size: int) -> EventStream:
    async def events() -> AsyncGenerator[Event, None]:
        yield Token("x" * size)

    return EventStream(events())


@router.post("/text")
async def text(size: int, then: str) -> Response:
    return PlainTextResponse("x" * size, headers={"Connection": then})


@router.post("/stream-with-a-task")
async def stream_with_a_task(tasks: BackgroundTasks, background: BackgroundDep) -> EventStream:
    tasks.add_task(background.run, brief)
    return EventStream(busy())


async def busy() -> AsyncGenerator[Event, None]:
    """Never waits."""
    yield Status("thinking", "s")
    try:
        while True:
            yield Token("word " * 1000)
    finally:
        await asyncio.sleep(0.01)
        log.info("the model is closed")


async def exits() -> None:
    sys.exit(3)


async def broken() -> None:
    raise RuntimeError("a task, on purpose")


async def brief() -> None:
    await asyncio.sleep(0.01)
    log.info("the task of the stream ran")


async def long() -> None:
    log.info("the long task began")
    await asyncio.sleep(60)


app = create_app(rooms=[chat(Talkative("a", 60.0))])
echo = create_app(rooms=[chat()])
for each in (app, echo):
    each.include_router(router)

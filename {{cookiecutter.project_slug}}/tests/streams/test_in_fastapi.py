"""A stream among what FastAPI adds around it: dependencies with `yield`, injected background tasks."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.callers.caller import ANONYMOUS
from app.dependencies import OneStream, OneStreamAgain
from app.streams.events import Event, Token
from app.streams.places import Places
from app.streams.response import EventStream, StreamRoute
from tests.asgi import exchange, state

SOON = 0.02


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.shutdown.GRACE_SECONDS", SOON)
    monkeypatch.setattr("app.streams.response.FAREWELL_SECONDS", SOON)


def app_of(order: list[str], ends_by_itself: bool) -> FastAPI:
    async def dependency() -> AsyncIterator[None]:
        yield
        order.append("dependency closed")

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            if not ends_by_itself:
                await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            order.append("source closed")

    async def task() -> None:
        await asyncio.sleep(0.001)
        order.append("task ran")

    app = FastAPI()

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks, _: Annotated[None, Depends(dependency)]) -> EventStream:
        tasks.add_task(task)
        return EventStream(source())

    return app


@pytest.mark.parametrize("ending", ["its own", "leaves", "leaves unread", "takes nothing", "drain", "drain, unread"])
async def test_the_source_is_closed_then_tasks_run_then_dependencies_close(ending: str) -> None:
    order: list[str] = []
    stalls = ending == "takes nothing"
    shared = state(heartbeat=SOON if stalls else 5, send_timeout=SOON if stalls else 5, drain=0)
    async with exchange(app_of(order, ending == "its own"), **shared) as stream:
        assert "token" in await stream.text()
        if ending in ("leaves unread", "takes nothing", "drain, unread"):
            stream.taking.clear()
        if ending.startswith("leaves"):
            stream.gone.set()
        if ending.startswith("drain"):
            shared["shutdown"].begin()
        await stream.until_ended()
    assert order == ["source closed", "task ran", "dependency closed"]


class Own(Response):
    """Sends what it sends when the route has ended, as many do."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        scope["state"]["held"].append(scope["state"]["places"].taken)
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize(
    "ending",
    ["its own", "leaves", "takes nothing", "drain", "lasts too long", "server cancels", "raises", "a class of its own"],
)
async def test_a_stream_holds_its_place_until_it_has_been_sent(ending: str) -> None:
    stalls, places, held = ending == "takes nothing", Places(1, 0), list[int]()
    shared = state(
        heartbeat=SOON if stalls else 5,
        send_timeout=SOON if stalls else 5,
        drain=0,
        longest=SOON if ending == "lasts too long" else 60,
    )

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            if ending != "its own":
                await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            held.append(places.taken)

    router, app = APIRouter(route_class=StreamRoute), FastAPI()

    @router.get("/", dependencies=[OneStream])
    async def endpoint() -> Response:
        if ending == "raises":
            held.append(places.taken)
            raise RuntimeError("on purpose")
        return Own("a") if ending == "a class of its own" else EventStream(source())

    app.include_router(router)
    async with exchange(app, places=places, caller=ANONYMOUS, held=held, **shared) as stream:
        if ending not in ("raises", "a class of its own"):
            assert "token" in await stream.text()
            assert ending == "its own" or places.taken == 1
        if stalls:
            stream.taking.clear()
        if ending == "leaves":
            stream.gone.set()
        if ending == "drain":
            shared["shutdown"].begin()
        if ending == "server cancels":
            stream.call.cancel()
        await stream.until_ended()
    assert (held, places.taken) == ([1], 0)


async def test_a_background_task_that_hangs_is_ended_with_the_drain_time(caplog: pytest.LogCaptureFixture) -> None:
    app, shared = FastAPI(), state(drain=0)

    async def source() -> AsyncGenerator[Event, None]:
        yield Token("a")

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks) -> EventStream:
        tasks.add_task(asyncio.sleep, 60)
        return EventStream(source())

    async with exchange(app, **shared) as stream:
        while not stream.finished:
            await stream.text()
        shared["shutdown"].begin()
        await stream.until_ended()
    assert "background tasks of a stream cancelled" in caplog.text


@pytest.mark.parametrize("dependency", [OneStream, OneStreamAgain])
async def test_a_streams_request_does_not_keep_its_body(dependency: Any) -> None:
    class Body(BaseModel):
        text: str

    async def source() -> AsyncGenerator[Event, None]:
        yield Token("a")
        await asyncio.sleep(60)

    router, app = APIRouter(route_class=StreamRoute), FastAPI()

    @router.post("/", dependencies=[dependency])
    async def endpoint(body: Body) -> EventStream:
        return EventStream(source())

    app.include_router(router)
    shared = state() | {"places": Places(1, 0), "caller": ANONYMOUS}
    async with exchange(app, body={"text": "a", "ignored": ("of this test",)}, **shared) as stream:
        await stream.text()
        gc.collect()
        lists = [each for each in gc.get_objects() if type(each) is list and len(each) == 1]
        assert not [each for (each,) in lists if type(each) is str and each == "of this test"]

"""The application of the template's sources, with routes that only tests need: `uvicorn streaming_app:app`."""

import asyncio
import gc
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from app.dependencies import OneStream  # type: ignore[import-not-found]
from app.main import create_app  # type: ignore[import-not-found]
from app.streams.events import Done, Error, Status, Token, encode  # type: ignore[import-not-found]
from app.streams.response import EventStream  # type: ignore[import-not-found]
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from nasty import MEGABYTE, NASTY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

app: FastAPI = create_app()


def streamed(events: AsyncIterator[object], headers: dict[str, str] | None = None) -> Response:
    response: Response = EventStream(events, headers=headers)
    return response


@app.get("/blank")
async def blank() -> HTMLResponse:
    return HTMLResponse("<!doctype html>")


@app.get("/nasty")
async def nasty() -> Response:
    """Every nasty text, a silence of half a second, and a fault."""

    async def events() -> AsyncIterator[object]:
        yield Status("thinking", NASTY[0])
        for text in [*NASTY, MEGABYTE]:
            yield Token(text)
        await asyncio.sleep(0.5)
        yield Error("model_error", "\n\n".join(NASTY), True, "-")
        yield Done("error")

    return streamed(events())


class Rounds:
    """Sources that wait for the same round all go on when it begins."""

    def __init__(self) -> None:
        self.number = 0
        self._next = asyncio.Event()

    def begin(self) -> None:
        self.number += 1
        self._next.set()
        self._next = asyncio.Event()

    async def reach(self, number: int) -> None:
        while self.number < number:
            await self._next.wait()


rounds = Rounds()


@app.get("/rounds", dependencies=[OneStream])
async def follow(count: int, buffering: str | None = None) -> Response:
    """A token in each of the next `count` rounds. `buffering` is what a proxy is told, instead of the default."""
    now = rounds.number

    async def events() -> AsyncIterator[object]:
        yield Status("thinking", "-")
        for number in range(1, count + 1):
            await rounds.reach(now + number)
            yield Token(str(number))

    return streamed(events(), {"x-accel-buffering": buffering} if buffering else None)


@app.post("/rounds")
async def begin_round() -> int:
    rounds.begin()
    return rounds.number


@dataclass
class Flow:
    """In bytes of frames. `ahead` is the most that was asked of the source before the server had accepted it."""

    pulled: int = 0
    accepted: int = 0
    ahead: int = 0
    closed: bool = False


flows: defaultdict[str, Flow] = defaultdict(Flow)


@app.get("/endless/{name}")
async def endless(name: str) -> Response:
    flow = flows[name]

    async def events() -> AsyncIterator[object]:
        number = 0
        try:
            while True:
                number += 1
                token = Token(f"{number}{'.' * 1000}")
                flow.pulled += len(encode(token, number))
                flow.ahead = max(flow.ahead, flow.pulled - flow.accepted)
                yield token
        finally:
            flow.closed = True

    return streamed(events())


@app.get("/flows")
async def show_flows() -> list[dict[str, object]]:
    return [asdict(flow) for flow in flows.values()]


@app.get("/usage")
async def show_usage() -> dict[str, int]:
    return usage()


def usage() -> dict[str, int]:
    """What this process holds after a full collection: descriptors, blocks of Python's objects, bytes of memory."""
    gc.collect()
    with open("/proc/self/statm") as pages:
        resident = int(pages.read().split()[1])
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "blocks": sys.getallocatedblocks(),
        "memory": resident * os.sysconf("SC_PAGE_SIZE"),
    }


class Counting:
    """Counts what the server accepts of each endless stream: what its `send` has returned from.

    It stands inside of the application, which looks at the `send` that the server has given it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, _, name = scope.get("path", "").partition("/endless/")

        async def counting(message: Message) -> None:
            await send(message)
            flows[name].accepted += len(message.get("body", b""))

        await self.app(scope, receive, counting if name else send)


app.add_middleware(Counting)

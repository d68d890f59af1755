"""The servers of `streaming.py` and `behaviour.py`: `python contestants.py CONTESTANT` prints its port, then serves.

Each contestant serves `/events/{kind}/{count}`, a stream of that many events, and `/usage`. It is written as its own
documentation shows it, and imports nothing of the others. But for raw ASGI and the bare one, each is a route of the
emitted application, so that all of them pass the same middleware. A server ends with its standard input, so that
none outlives the command that started it.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
PROJECT = Path(__file__).resolve().parent.parent / "{{cookiecutter.project_slug}}"
PACE_SECONDS = 0.5
WORD = "word "


async def ready(count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    """Has each event at hand: it never waits."""
    for number in range(1, count + 1):
        yield make(number)


async def turn(count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    """Gives the loop a turn before each event, as a model's client does that reads from a socket."""
    for number in range(1, count + 1):
        await asyncio.sleep(0)
        yield make(number)


async def paced(count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    for number in range(1, count + 1):
        yield make(number)
        await asyncio.sleep(PACE_SECONDS)


async def idle(count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    """Falls silent after its events, for ever."""
    for number in range(1, count + 1):
        yield make(number)
    await asyncio.Event().wait()


async def watched(count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    """Like `idle`, and prints when it is closed, and again if it may wait then, as for a database."""
    try:
        for number in range(1, count + 1):
            yield make(number)
        await asyncio.Event().wait()
    finally:
        print("closed", flush=True)
        await asyncio.sleep(0.1)
        print("ran", flush=True)


async def broken(count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    for number in range(1, count + 1):
        yield make(number)
    raise RuntimeError("the model is down")


def source(kind: str, count: int, make: Callable[[int], T]) -> AsyncGenerator[T, None]:
    """Take the kind of source, the number of its events, and what makes an event from its number."""
    sources = {"ready": ready, "turn": turn, "answer": turn}
    sources |= {"paced": paced, "idle": idle, "watched": watched, "broken": broken}
    return sources[kind](count, make)


def frame(number: int) -> str:
    """As most write it by hand. Without a JSON encoder it would hold only while no text has a quote."""
    return f"event: token\nid: {number}\ndata: {json.dumps({'text': WORD})}\n\n"


def raw() -> ASGIApp:
    """No framework at all: what the server itself costs."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (kind := (await receive())["type"]) != "lifespan.shutdown":
                await send({"type": f"{kind}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/usage":
            await send({"type": "http.response.body", "body": json.dumps(read_usage()).encode()})
            return
        _, _, kind, count = scope["path"].split("/")
        async for body in source(kind, int(count), lambda number: frame(number).encode()):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    return app


def bare() -> ASGIApp:
    """What an application without a middleware of its own costs: the least that FastAPI can be."""
    from fastapi import FastAPI

    return with_streaming_response(FastAPI())


def streaming_response() -> ASGIApp:
    return with_streaming_response(application())


def with_streaming_response(app: Any) -> ASGIApp:
    from starlette.responses import StreamingResponse

    @app.get("/events/{kind}/{count}")  # type: ignore[untyped-decorator]
    async def events(kind: str, count: int) -> StreamingResponse:
        return StreamingResponse(source(kind, count, frame), media_type="text/event-stream")

    app.get("/usage")(usage)
    return app  # type: ignore[no-any-return]


def fastapi_sse() -> ASGIApp:
    from fastapi.sse import EventSourceResponse, ServerSentEvent
    from pydantic import BaseModel

    app = application()

    class Text(BaseModel):
        text: str

    def make(number: int) -> ServerSentEvent:
        return ServerSentEvent(data=Text(text=WORD), event="token", id=str(number))

    @app.get("/events/{kind}/{count}", response_class=EventSourceResponse)  # type: ignore[untyped-decorator]
    async def events(kind: str, count: int) -> AsyncIterable[ServerSentEvent]:
        async for event in source(kind, count, make):
            yield event

    app.get("/usage")(usage)
    return app  # type: ignore[no-any-return]


def sse_starlette() -> ASGIApp:
    from sse_starlette import EventSourceResponse

    app = application()

    def make(number: int) -> dict[str, str]:
        return {"event": "token", "id": str(number), "data": json.dumps({"text": WORD})}

    @app.get("/events/{kind}/{count}")  # type: ignore[untyped-decorator]
    async def events(kind: str, count: int) -> EventSourceResponse:
        return EventSourceResponse(source(kind, count, make))

    app.get("/usage")(usage)
    return app  # type: ignore[no-any-return]


def ours() -> ASGIApp:
    """An `answer` is that of a model, on its way through all that the chat's route does."""
    app = application()
    from app.chat.generation import Generation  # type: ignore[import-not-found]
    from app.chat.providers.base import Message  # type: ignore[import-not-found]
    from app.dependencies import OneStream  # type: ignore[import-not-found]
    from app.streams.events import Event, Token  # type: ignore[import-not-found]
    from app.streams.response import EventStream  # type: ignore[import-not-found]

    class Model:
        service = model = "of words"

        def __init__(self, words: int) -> None:
            self.words = words

        def stream(self, *_: Any) -> AsyncGenerator[str, None]:
            return turn(self.words, lambda _: WORD)

    def make(_: int) -> Event:
        return Token(WORD)

    # With a place, as each stream of a project has. The crowd that is measured last may leave after the next has come.
    @app.get("/events/{kind}/{count}", response_class=EventStream, dependencies=[OneStream])  # type: ignore[untyped-decorator]
    async def events(kind: str, count: int) -> EventStream:
        if kind != "answer":
            return EventStream(source(kind, count, make))
        question = [Message(role="user", content="?")]
        generation = Generation(Model(count), question, caller="anonymous", seconds=60, max_chars=count * len(WORD))
        return EventStream(generation.events(), time_left=generation.time_left)

    app.get("/usage")(usage)
    return app  # type: ignore[no-any-return]


def application() -> Any:
    """The emitted one, as it is."""
    import fastapi  # noqa: F401 - compiled and kept, unlike what follows
    import pydantic_settings  # noqa: F401

    sys.dont_write_bytecode = True  # the template's own folder is rendered with whatever lies in it
    sys.path.insert(0, str(PROJECT))
    os.environ.setdefault("MAX_STREAMS", "10000")
    from app.main import create_app  # type: ignore[import-not-found]

    return create_app()


def ours_httptools() -> ASGIApp:
    """With the parser that uvicorn would choose, which sets no limits to a request's head."""
    return ours()


CONTESTANTS = {
    contestant.__name__: contestant
    for contestant in (raw, bare, streaming_response, fastapi_sse, sse_starlette, ours, ours_httptools)
}


async def usage() -> dict[str, float]:
    return read_usage()


def read_usage() -> dict[str, float]:
    """CPU seconds before and after what reading itself costs, garbage collection included; bytes; descriptors."""
    cpu_before = time.process_time()
    gc.collect()
    descriptors = len(os.listdir("/dev/fd"))
    return {
        "cpu_before": cpu_before,
        "memory": float(resident_bytes()),
        "descriptors": float(descriptors),
        "cpu_after": time.process_time(),
    }


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]  # macOS
    return int(subprocess.check_output(command, timeout=10)) * 1024


def end_with_standard_input() -> None:
    while os.read(0, 1024):  # not sys.stdin: an interpreter that ends would wait for its lock
        pass
    os._exit(0)


def serve(app: ASGIApp, parser: Literal["auto", "httptools"] = "auto") -> None:
    """On a port that it prints when it listens, until standard input ends. The emitted application turns `auto` into
    h11."""
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    config = uvicorn.Config(app, port=0, loop="uvloop", http=parser, access_log=False, log_level="warning")
    listener = config.bind_socket()
    listener.listen(config.backlog)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(CONTESTANTS[sys.argv[1]](), "httptools" if sys.argv[1] == "ours_httptools" else "auto")

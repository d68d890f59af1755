"""One exchange with an ASGI application on this event loop, message by message: no sockets, no threads."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from app.shutdown import Shutdown
from app.streams.response import StreamLimits

WAIT_SECONDS = 10.0  # only a broken test waits that long


def state(heartbeat: float = 10, send_timeout: float = 30, drain: float = 1, longest: float = 3600) -> dict[str, Any]:
    return {"stream_limits": StreamLimits(heartbeat, send_timeout, longest), "shutdown": Shutdown(drain)}


class Exchange:
    """The server's side of it: what the application sends is taken while `taking` is set."""

    call: "asyncio.Task[None]"
    status: int
    headers: dict[str, str]

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.taking = asyncio.Event()
        self.taking.set()
        self.ended = asyncio.Event()
        self.aborted = False
        self.finished = False
        self.left_out: list[Message] = []
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._requests: list[Message] = []

    async def receive(self) -> Message:
        if self._requests:
            return self._requests.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.gone.is_set():  # as uvicorn leaves out what is sent then
            self.left_out.append(message)
            return
        await self.taking.wait()
        assert not self.finished, "nothing may follow the end of a body"
        self.finished = _is_end(message)
        await self._sent.put(message)

    @property
    def has_end(self) -> bool:
        """Whether the application has ended its response, be it for nobody."""
        return self.finished or any(map(_is_end, self.left_out))

    def abort(self) -> None:
        """What uvicorn's transport offers."""
        self.aborted = True
        self.gone.set()

    def get_extra_info(self, name: str) -> None:
        """The same. There is no socket."""

    async def message(self) -> Message:
        return await asyncio.wait_for(self._sent.get(), WAIT_SECONDS)

    async def text(self) -> str:
        """The next piece of the body; empty at the proper end."""
        message = await self.message()
        assert message["type"] == "http.response.body"
        return str(message["body"], "utf-8")

    async def rest(self) -> str:
        """What comes until the response ends, properly or not."""
        await asyncio.wait_for(self.ended.wait(), WAIT_SECONDS)
        pieces = []
        while not self._sent.empty():
            pieces.append(await self.text())
        return "".join(pieces)

    async def until_ended(self) -> None:
        await asyncio.wait_for(self.ended.wait(), WAIT_SECONDS)


def _is_end(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body")


@asynccontextmanager
async def exchange(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    **state: Any,
) -> AsyncIterator[Exchange]:
    """Sends a request (by default POST when there is a `body`) and gives what talks to the application about it."""
    talk = Exchange()
    talk._requests = (
        [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}] if body is not None else []
    )
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"content-type", b"application/json"),
            *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "state": {"transport": talk, **state},
    }

    async def answer() -> None:
        await app(scope, talk.receive, talk.send)

    talk.call = call = asyncio.create_task(answer())
    call.add_done_callback(lambda _: talk.ended.set())
    try:
        start = await talk.message()
        assert start["type"] == "http.response.start"
        talk.status = start["status"]
        talk.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        yield talk
    finally:
        talk.gone.set()
        talk.taking.set()
        await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), WAIT_SECONDS)

"""EventStream: sends a source of events as Server-Sent Events and ends them with exactly one `done`.

Who ends a stream, and what the client gets:

    the source returns             `done` with reason `end`, or the source's own `Done`
    the source raises StreamFault  its `error`, then `done` with its reason
    the source raises otherwise    `error` (internal_error), `done` (error); the exception is logged
    the drain time is over         `error` (server_shutdown), `done` (shutdown), without ids: the client may return
    the client leaves              nothing
    the client takes nothing       a connection that is cut, so that no reader takes a part for the whole

On each of these the source is closed before the response ends, and background tasks run after that.

Must stay as it is: whatever cancels this response from outside (a server's time limit, a cancel scope of a
middleware) may cancel each `await` again, so the wait for the source's cleanup is shielded.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.logging import request_id
from app.shutdown import Shutdown
from app.streams.events import Done, Encoder, Error, Event, KeepAlive, StreamFault, encode
from app.streams.heartbeat import CLEANUP_SECONDS, heartbeat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamLimits:
    """In seconds: the silence after which a keep-alive goes out, and how long a client may take nothing."""

    heartbeat: float
    send_timeout: float


class NoReader(Exception):
    """Why nothing more can be sent."""


class EventStream(Response):
    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Event],
        encoder: Encoder = encode,
        *,
        status_code: int = 200,  # FastAPI reads the default from this signature for its docs
        first_id: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`first_id` is the place of the first of `events`, for a source that continues after a reconnect."""
        self.events = events
        self.encoder = encoder
        self.next_id = first_id
        self.status_code = status_code
        self.background = None  # FastAPI puts injected BackgroundTasks here
        # nginx holds a response back until its buffer is full unless told otherwise.
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits: StreamLimits = scope["state"]["stream_limits"]
        shutdown: Shutdown = scope["state"]["shutdown"]
        self._send, self._send_timeout = send, limits.send_timeout
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._stream(receive, limits.heartbeat, shutdown)
        except NoReader as why:
            log.warning("stream cut: %s", why)
        finally:
            if self.background is not None:
                await self.background()

    async def _stream(self, receive: Receive, heartbeat_seconds: float, shutdown: Shutdown) -> None:
        writing = asyncio.create_task(self._write(heartbeat_seconds))
        leaving = asyncio.create_task(_left(receive))
        try:
            with shutdown.at_limit(writing.cancel):
                await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = leaving.done()
            writing.cancel()
            leaving.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({writing, leaving}, timeout=CLEANUP_SECONDS + 1)
        if left:
            return
        if writing.cancelled():
            await self._put(
                Error("server_shutdown", "The server is restarting.", True, request_id.get()),
                Done("shutdown"),
                numbered=False,
            )
        else:
            writing.result()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, heartbeat_seconds: float) -> None:
        try:
            async with aclosing(heartbeat(self.events, heartbeat_seconds)) as batches:
                async for batch in batches:
                    if not batch:
                        await self._put(KeepAlive(), numbered=False)
                    elif await self._put(*batch):
                        return
        except StreamFault as fault:
            await self._put(fault.error, Done(fault.reason))
        except NoReader:
            raise
        except Exception:
            log.exception("stream failed")
            error = Error("internal_error", "Something went wrong on our side.", True, request_id.get())
            await self._put(error, Done("error"))
        else:
            await self._put(Done())

    async def _put(self, *events: Event, numbered: bool = True) -> bool:
        """Sends `events` in one piece, up to a `Done`; tells whether there was one."""
        frames = []
        for event in events:
            frames.append(self.encoder(event, self.next_id if numbered else None))
            self.next_id += numbered
            if isinstance(event, Done):
                break
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._send({"type": "http.response.body", "body": b"".join(frames), "more_body": True})
        except TimeoutError as error:
            raise NoReader(f"the client has taken nothing for {self._send_timeout:g} s") from error
        except OSError as error:  # how a server of ASGI 2.4 may say it
            raise NoReader("the client has left") from error
        return isinstance(event, Done)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

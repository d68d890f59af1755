"""EventStream: sends a source of events as Server-Sent Events and ends them with exactly one `done`.

Who ends a stream, and what the client gets:

    the source returns             `done` with reason `end`, or the source's own `Done`
    the source raises StreamFault  its `error`, then `done` with its reason
    the source raises otherwise    `error` (internal_error), `done` (error); the exception is logged
    the drain time is over         `error` (server_shutdown), `done` (shutdown), without ids: the client may return
    the client leaves              nothing
    the client takes nothing       no proper end, so that no reader takes a part for the whole

On each of these the source is closed before the response ends, unless its cleanup takes longer than
CLEANUP_SECONDS, and background tasks run after that.

Must stay as it is:
- whatever cancels this response from outside (a server's time limit, a cancel scope of a middleware) may cancel
  each `await` again, so the wait for the source's cleanup is shielded;
- after its `Done` a source is read on, not closed: it may be in the middle of its own cleanup.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.logging import request_id
from app.shutdown import Shutdown
from app.streams.events import Done, Encoder, Error, Event, KeepAlive, StreamFault, encode
from app.streams.heartbeat import CLEANUP_SECONDS, heartbeat
from app.streams.wire import NoReader, Wire

log = logging.getLogger(__name__)
FAREWELL_SECONDS = 1.0  # for the last words at the end of the drain time


@dataclass(frozen=True)
class StreamLimits:
    """In seconds: the silence after which a keep-alive goes out, and how long a client may take nothing."""

    heartbeat: float
    send_timeout: float


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
        self.first_id = first_id
        self.status_code = status_code
        self.background = None  # FastAPI puts injected BackgroundTasks here
        # nginx holds a response back until its buffer is full unless told otherwise.
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits: StreamLimits = scope["state"]["stream_limits"]
        shutdown: Shutdown = scope["state"]["shutdown"]
        wire = Wire(send, self.encoder, self.first_id, limits.send_timeout)
        try:
            if shutdown.expired:
                refusal = JSONResponse({"detail": "the server is going down"}, 503, {"Retry-After": "1"})
                await refusal(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if await self._stream(wire, receive, limits.heartbeat, shutdown):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except NoReader as why:
            log.warning("stream cut: %s", why)
        finally:
            if self.background is not None:
                await self.background()

    async def _stream(self, wire: Wire, receive: Receive, heartbeat_seconds: float, shutdown: Shutdown) -> bool:
        """Whether the client is there to see the end."""
        writing = asyncio.create_task(self._write(wire, heartbeat_seconds))
        leaving = asyncio.create_task(_left(receive))
        try:
            with shutdown.at_limit(writing.cancel):
                await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = leaving.done()
            leaving.cancel()
            if not writing.cancelling():  # a second time would cut short the cleanup that the first has begun
                writing.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({writing, leaving}, timeout=2 * CLEANUP_SECONDS)
        if left:
            return False
        if writing.cancelled():
            wire.send_timeout = FAREWELL_SECONDS
            error = Error("server_shutdown", "The server is restarting.", True, request_id.get())
            await wire.put(error, Done("shutdown"), numbered=False)
        else:
            writing.result()
        return True

    async def _write(self, wire: Wire, heartbeat_seconds: float) -> None:
        try:
            async with aclosing(heartbeat(self.events, heartbeat_seconds)) as batches:
                async for batch in batches:
                    await (wire.put(*batch) if batch else wire.put(KeepAlive(), numbered=False))
                    if wire.done:
                        break
                async with asyncio.timeout(CLEANUP_SECONDS):
                    async for _ in batches:
                        pass
        except StreamFault as fault:
            await wire.put(fault.error, Done(fault.reason))
        except NoReader:
            raise
        except Exception:
            log.exception("stream failed")
            error = Error("internal_error", "Something went wrong on our side.", True, request_id.get())
            await wire.put(error, Done("error"))
        else:
            await wire.put(Done())


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""EventStream: sends a source of events as Server-Sent Events and ends them with exactly one `done`.

ARCHITECTURE.md has the table of who can end a stream, and what then happens. Must stay as it is:
- the source is cancelled by `task.cancel()`, once: an `await` in the `finally` that this brings it to runs to its end,
  where a cancel scope would cancel each one again. The wait for that is shielded, for the response itself may stand in
  such a scope: that of a middleware, say;
- after its `Done` a source is read on, not closed: it may be in the middle of its own cleanup;
- one watch per stream looks after silence and stalls: a timer per event would cost as much as the event;
- a stream that can't end properly cuts its connection, or a reader would take a part for the whole.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.logs import request_id
from app.shutdown import Shutdown
from app.streams.events import Done, Encoder, Error, Event, StreamFault, encode
from app.streams.wire import Wire

log = logging.getLogger(__name__)
CLEANUP_SECONDS = 5.0
FAREWELL_SECONDS = 0.4  # beyond the drain time: for a piece that is on its way, and for the last words


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
        # nginx would hold a response that it compresses back until its buffer is full.
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shutdown: Shutdown = scope["state"]["shutdown"]
        try:
            if shutdown.expired:
                refusal = JSONResponse({"detail": "the server is going down"}, 503, {"Retry-After": "1"})
                await refusal(scope, receive, send)
            else:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._stream(Wire(send, self.encoder, self.first_id), receive, scope["state"])
        finally:
            if self.background is not None:
                with anyio.CancelScope(shield=True):
                    await shutdown.limit(self.background(), "the background tasks of a stream")

    async def _stream(self, wire: Wire, receive: Receive, state: Mapping[str, Any]) -> None:
        shutdown: Shutdown = state["shutdown"]
        limit: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writing, leaving = asyncio.create_task(self._write(wire)), asyncio.create_task(_left(receive))
        try:
            try:
                with shutdown.at_limit(limit.cancel):
                    await _watch(wire, {writing, leaving, limit}, state["stream_limits"])
                if limit.done() and wire.sending:
                    wire.closing = True
                    ends = {writing, leaving}
                    await asyncio.wait(ends, timeout=FAREWELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wire.close(writing)
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({writing}, timeout=CLEANUP_SECONDS)
                if not writing.done():
                    log.error("a source of events has not closed in %g s", CLEANUP_SECONDS)
                    writing.cancel()  # it may have swallowed the first
            if writing.done() and not writing.cancelled():
                writing.result()
            if writing.cancelled() and limit.done() and not wire.torn and not leaving.done():
                with anyio.move_on_after(FAREWELL_SECONDS):
                    error = Error("server_shutdown", "The server is restarting.", True, request_id.get())
                    await wire.end(error, Done("shutdown"), numbered=False)
            if not (wire.ended or leaving.done() or state.get("transport")):
                raise ConnectionError("a stream that can't be ended properly")  # all that another server may understand
        finally:
            if not wire.ended and not leaving.done() and (transport := state.get("transport")):
                transport.abort()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({leaving}, timeout=FAREWELL_SECONDS)  # uvicorn complains unless it knows
            leaving.cancel()
            if wire.beating:
                wire.beating.cancel()

    async def _write(self, wire: Wire) -> None:
        last: tuple[Event, ...] = (Done(),)
        try:
            try:
                await wire.carry(self.events)
                if wire.done:
                    async with asyncio.timeout(CLEANUP_SECONDS):
                        async for _ in self.events:
                            await asyncio.sleep(0)
            finally:
                if isinstance(self.events, AsyncGenerator):
                    await self.events.aclose()
        except StreamFault as fault:
            last = (fault.error, Done(fault.reason))
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (wire.closing or (task and task.cancelling())):
                raise
            log.exception("stream failed")
            last = (Error("internal_error", "Something went wrong on our side.", True, request_id.get()), Done("error"))
        if wire.closing:
            raise asyncio.CancelledError
        await wire.end(*last)


async def _watch(wire: Wire, tasks: "set[asyncio.Future[None]]", limits: StreamLimits) -> None:
    """Fills silence until one of `tasks` has ended, or the client has taken nothing for too long."""
    soonest = wait = min(limits.heartbeat, limits.send_timeout)
    while not (await asyncio.wait(tasks, timeout=wait, return_when=asyncio.FIRST_COMPLETED))[0]:
        if wire.torn:
            return
        quiet = monotonic() - wire.since
        if wire.sending and quiet >= limits.send_timeout:
            log.warning("the client has taken nothing for %g s", limits.send_timeout)
            return
        if not wire.sending and quiet >= limits.heartbeat:
            wire.beat(limits.heartbeat)
            quiet = 0.0
        wait = min((limits.send_timeout if wire.sending else limits.heartbeat) - quiet, soonest)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

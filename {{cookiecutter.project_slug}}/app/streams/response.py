"""EventStream: a log to one client. ARCHITECTURE.md has the table of who can end a stream, and what then happens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.contain import contained
from app.logs import request_id
from app.shutdown import Shutdown
from app.streams.client import Client
from app.streams.events import Done, Encoder, Error, Event, KeepAlive, encode
from app.streams.log import Log
from app.streams.source import Last, TimeLeft, internal_error, log_of

log = logging.getLogger(__name__)
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
        events: Log | AsyncIterator[Event],
        encoder: Encoder = encode,
        *,
        status_code: int = 200,  # FastAPI reads the default from this signature for its docs
        after: int = 0,
        time_left: TimeLeft | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends the events of a log but the first `after`, or those of an iterator. The stream closes an iterator when
        it ends, or when `time_left` raises. An `encoder` that has a state is for one stream.

        The application's lifespan puts what this needs into the request's state: Shutdown and StreamLimits.
        """
        self.events = events
        self.encoder = encoder
        self.after = after
        self.time_left = time_left
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
                client = Client(receive, send, scope["state"].get("transport"))
                await self._serve(client, shutdown, scope["state"]["stream_limits"])
        finally:
            if self.background is not None:
                with anyio.CancelScope(shield=True):
                    await shutdown.limit(self.background(), "the background tasks of a stream")

    async def _serve(self, client: Client, shutdown: Shutdown, limits: StreamLimits) -> None:
        """Whatever ends it: the source is closed first, then the client is told. One that can't be told is cut off."""
        last: Last = ()  # what the connection itself says; without ids, for it is not of the log
        try:
            async with log_of(self.events, self.time_left) as events:
                last = await self._send_until_an_end(client, events, shutdown, limits)
        finally:
            # Whoever cancels the response, a middleware say, may cancel each `await` of it.
            with anyio.CancelScope(shield=True):
                if last and not client.sending and not client.left:
                    with suppress(Exception), anyio.move_on_after(FAREWELL_SECONDS):
                        await client.put(b"".join(self.encoder(event, None) for event in last), more=False)
                await client.close()

    async def _send_until_an_end(self, client: Client, events: Log, shutdown: Shutdown, limits: StreamLimits) -> Last:
        """That of the log, the client or the drain time, or a failure. Returns what the connection has to say of it."""
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(contained(self._write(client, events, limits.heartbeat, expired)))
        try:
            with shutdown.at_limit(expired.cancel):
                await client.watch({writing, client.leaving, expired}, limits.send_timeout)
            if expired.done() and client.sending:  # what is on its way may get out
                ends = {writing, client.leaving}
                await asyncio.wait(ends, timeout=FAREWELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({writing})
        if not writing.cancelled() and (failure := writing.exception()):
            # Where sending fails, the client may have left.
            if not (client.sending and (client.left or isinstance(failure, OSError))):
                log.error("stream failed", exc_info=failure)
            return internal_error()
        if expired.done():
            return Error("server_shutdown", "The server is restarting.", True, request_id.get()), Done("shutdown")
        return ()

    async def _write(self, client: Client, events: Log, heartbeat: float, expired: "asyncio.Future[None]") -> None:
        place, ended = self.after, False
        while not ended and not expired.done() and (batch := await events.after(place, heartbeat)) is not None:
            frames = [] if batch else [self.encoder(KeepAlive(), None)]
            try:
                for event in batch:
                    frames.append(self.encoder(event, place + 1))
                    place += 1
                    ended = isinstance(event, Done)
            finally:  # what comes before an event that can't be encoded arrives
                await client.put(b"".join(frames), more=not ended)
        if not expired.done():
            await client.put(b"", more=False)

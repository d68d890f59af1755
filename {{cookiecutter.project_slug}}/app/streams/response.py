"""EventStream: a log to one client. ARCHITECTURE.md has the table of who can end a stream, and what then happens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from math import inf
from typing import Any

import anyio
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.contain import contained
from app.shutdown import Shutdown
from app.streams.client import Client
from app.streams.events import Done, Encoder, Event, KeepAlive, StreamFault, encode
from app.streams.heartbeat import with_heartbeat
from app.streams.log import Log, come_back
from app.streams.source import Last, TimeLeft, internal_error

log = logging.getLogger(__name__)
FAREWELL_SECONDS = 0.4  # beyond the drain time: for a piece that is on its way, and for the last words


@dataclass(frozen=True)
class StreamLimits:
    """In seconds: the silence before a keep-alive, how long a client may take nothing, how long a stream may last."""

    heartbeat: float
    send_timeout: float
    longest: float


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
        """Sends the events of a log but the first `after`, or all those of an iterator. The stream closes an iterator
        when it ends, or when `time_left` raises. An `encoder` that has a state is for one stream.

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
                await self._serve(scope["state"], receive, send)
        finally:
            if self.background is not None:
                with anyio.CancelScope(shield=True):
                    await shutdown.limit(self.background(), "the background tasks of a stream")

    async def _serve(self, state: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Whatever ends it: the source is closed first, then the client is told. One that can't be told is cut off."""
        shutdown: Shutdown = state["shutdown"]
        limits: StreamLimits = state["stream_limits"]
        loop, sending = asyncio.get_running_loop(), anyio.CancelScope()
        last: Last = ()  # what the connection itself says; without ids, for it is not of the log
        client = Client(receive, send, state.get("transport"), limits.send_timeout, lost=sending.cancel)

        def expire() -> None:  # what is on its way may get out
            sending.deadline = loop.time() + (FAREWELL_SECONDS if client.sending else 0)
            if not shutdown.expired:
                log.info("a stream has lasted %g s: its client may come back", limits.longest)

        def over() -> bool:  # a cancellation reaches only what waits, and the next batch may be ready
            return sending.cancel_called or sending.deadline < inf

        async with aclosing(client):
            try:
                batches = with_heartbeat(self.events, limits.heartbeat, self.after, self.time_left)
                async with aclosing(batches):
                    with sending, shutdown.at_limit(expire, limits.longest):
                        await contained(self._send(client, batches, over))
                if sending.deadline < inf:
                    raise come_back()
            except StreamFault as fault:
                last, client.why = (fault.error, Done(fault.reason)), "sent_back"
            except Exception as failure:
                # Where sending fails, the client may have left.
                client.why = "left" if client.sending and (client.left or isinstance(failure, OSError)) else "failed"
                if client.why == "failed":
                    log.exception("stream failed")
                last = internal_error()
            if last and not client.sending and not client.left:
                with suppress(Exception), anyio.move_on_after(FAREWELL_SECONDS, shield=True):
                    await contained(self._say(client, last))

    async def _send(self, client: Client, batches: AsyncIterator[Sequence[Event]], over: Callable[[], bool]) -> None:
        await client.start(self.status_code, self.raw_headers)
        place, ended = self.after, False
        async for batch in batches:
            if over():  # it came at the same moment: a client that is slow would be cancelled in the middle of it
                return
            frames = bytearray()
            try:
                for event in batch:
                    own = isinstance(event, KeepAlive)
                    frames += self.encoder(event, None if own else place + 1)
                    place += not own
                    ended = isinstance(event, Done)
            finally:  # what comes before an event that can't be encoded arrives
                await client.put(bytes(frames), more=not ended)
            if over():
                return
        await client.put(b"", more=False)

    async def _say(self, client: Client, last: Last) -> None:
        await client.put(b"".join(self.encoder(event, None) for event in last), more=False)


class StreamRoute(APIRoute):
    """For an APIRouter whose routes answer with streams: has the request's body freed before the stream begins.

    FastAPI's own request lives as long as its response, and so does the body that it has parsed: a MiB of `[],[],…`
    takes 22 MiB.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_its_own(request: Request) -> Response:
            return await handle(Request(request.scope, request.receive))

        return with_its_own

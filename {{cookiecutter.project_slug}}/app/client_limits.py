"""Limits of what a client may hold: a connection whose request is not whole, or that takes nothing of a response.

Leans on uvicorn, as `connections.py` does, for ASGI does not show a request that is not whole. uvicorn makes an object
for each connection, of the class `config.http_protocol_class`. We put ours there, after the lifespan has begun and
before uvicorn opens its port. The lifespan's `receive` is a method of an object that has this `config`.
"""

import asyncio
import logging
from functools import partial
from typing import Any

import h11
from starlette.types import Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)


class Unfinished:
    """The connections of one server whose next request is not whole. Those that have waited longest come first."""

    def __init__(self, seconds: float, most: int) -> None:
        """A connection is cut after `seconds`, or when `most` others have come since and wait too."""
        self._seconds = seconds
        self._most = most
        self._timers: dict[asyncio.Transport, asyncio.TimerHandle | None] = {}

    def add(self, transport: asyncio.Transport, idle: bool = False) -> None:
        """One that is there already keeps its time. An `idle` one has had a response, and has all the time that uvicorn
        gives it (`--timeout-keep-alive`) until it sends something."""
        if self._timers.get(transport) or (idle and transport in self._timers):
            return
        loop, why = asyncio.get_running_loop(), f"it has sent no whole request in {self._seconds:g} s"
        self._timers[transport] = None if idle else loop.call_later(self._seconds, self._cut, transport, why)
        if len(self._timers) > self._most:
            self._cut(next(iter(self._timers)), f"of {self._most} that wait for a whole request it is the oldest")

    def discard(self, transport: asyncio.Transport) -> None:
        if timer := self._timers.pop(transport, None):
            timer.cancel()

    def _cut(self, transport: asyncio.Transport, why: str) -> None:
        log.info("the client at %s is cut off: %s", transport.get_extra_info("peername"), why)
        self.discard(transport)
        transport.abort()


class Connection(H11Protocol):
    """One whose requests must be whole in time, and whose client must take what it gets. h11 itself refuses a head, or
    a line of a body, of more than 64 KiB."""

    def __init__(self, unfinished: Unfinished, send_seconds: float, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._unfinished = unfinished
        self._send_seconds = send_seconds
        self._unsent = 0
        self._took = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._unfinished.add(transport)
        self._timer = self.loop.call_later(self._send_seconds, self._look)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note(idle=True)

    def _note(self, idle: bool = False) -> None:
        """Whether it waits for a request, or for the rest of one. An `idle` one counts too, for there may be many. A
        response that is complete here may be on its way for long: its client waits for nothing, and `_look` sees
        whether it takes that."""
        taken = self.cycle is not None and self.cycle.response_complete and not self.flow.write_paused
        reads = self.cycle is None or self.cycle.more_body or taken
        if reads and self.transport.get_protocol() is self:  # else it is a WebSocket by now
            self._unfinished.add(self.transport, idle)
        else:
            self._unfinished.discard(self.transport)

    def send_400_response(self, msg: str) -> None:
        """Of a body that can't be read. uvicorn would raise, once here if a response has begun, and once where the
        application responds: both look like faults of the server."""
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._took = True
        self._note(idle=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unfinished.discard(self.transport)
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Cuts a client that has taken nothing since the last look. A stream does that itself, and sooner: this is for
        other responses, and for what is left when a connection is closed, for which uvicorn would wait for ever."""
        if self.transport.get_protocol() is not self:
            return
        unsent = self._waits()
        if self._unsent and unsent >= self._unsent and not self._took:
            log.info("the client at %s is cut off: it has taken nothing for %g s", self.client, self._send_seconds)
            self.transport.abort()
        self._unsent, self._took = unsent, False
        self._timer = self.loop.call_later(self._send_seconds, self._look)

    def _waits(self) -> int:
        """How many bytes wait for the client, if nothing can be added to them. Else 0: while as much is added as the
        client takes, the number stands still."""
        if self.scheme == "https" and self.transport.is_closing():
            return 0  # asyncio itself ends that, 30 s after the close
        full = self.flow.write_paused or self.cycle is None or self.cycle.response_complete
        return self.transport.get_write_buffer_size() if full else 0


def limit_clients(receive: Receive, request_seconds: float, send_seconds: float, most_unfinished: int) -> None:
    """Has uvicorn cut a connection whose request is not whole after so many seconds, or whose client takes nothing for
    so long. `receive` is that of a lifespan.

    uvicorn's default, httptools, takes headers without end. h11 does not, and costs some 80 us more for each request:
    little beside an answer. Who has chosen another parser keeps it, without these limits."""
    config: Any = getattr(getattr(receive, "__self__", None), "config", None)
    parser = getattr(config, "http", None)
    if parser in ("auto", "h11"):
        config.http_protocol_class = partial(Connection, Unfinished(request_seconds, most_unfinished), send_seconds)
    elif parser:
        log.warning("--http %s: clients have no time limits, and headers without end fill the memory", parser)

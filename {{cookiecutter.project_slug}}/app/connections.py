"""The one place that leans on uvicorn: limits of a request, connections that can be cut, and the news that it stops.

ASGI has no message that cuts a connection. To close one is to wait for its client, even for one that takes nothing. It
has no message either that says "the server stops" before the last response has ended. uvicorn's `send` is a method of
an object, of which we use:
- `transport`, an asyncio.Transport, whose `abort` cuts the connection;
- `more_body`, which is true while the client has not sent all of its request;
- `on_response`, a method of the connection, whose `server_state.connections` are told to `shutdown()` when the server
  stops, with or without a signal. uvicorn waits until that set is empty, and counts it for `--limit-concurrency`.

Under another server, or inside of something that wraps `send`, none of it works, and the log says so once.

ASGI does not say either how many processes the server runs, and shows no request that is not whole. The `receive` of
uvicorn's lifespan is a method of an object, of which we use `config`:
- its `workers`, or those of gunicorn's worker, whose method `callback_notify` is;
- `http_protocol_class`, which makes an object of each connection. uvicorn reads it when the lifespan has begun.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)
UNSENT_BYTES = 64 * 1024
BACKLOG = 2048  # uvicorn's own: so many connections may come at one blow, before the first of them is read


class Unfinished:
    """The connections of one server whose next request is not whole. Those that have waited longest come first."""

    def __init__(self, seconds: float, most: int) -> None:
        """A connection is cut after `seconds`, or when `most` others have come since and wait too."""
        self._seconds = seconds
        self._most = most
        self._timers: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def add(self, transport: asyncio.Transport) -> None:
        """One that is there already keeps its time."""
        if transport not in self._timers:
            self._timers[transport] = asyncio.get_running_loop().call_later(self._seconds, self._cut, transport)
            if len(self._timers) > self._most:
                self._cut(next(iter(self._timers)))

    def discard(self, transport: asyncio.Transport) -> None:
        if timer := self._timers.pop(transport, None):
            timer.cancel()

    def _cut(self, transport: asyncio.Transport) -> None:
        log.info("cut: no whole request in %g s, or one of more than %d that wait for one", self._seconds, self._most)
        self.discard(transport)
        transport.abort()


class Connection(H11Protocol):
    """One whose requests must be whole in time. h11 itself refuses a head, or a line of a body, of more than 64 KiB."""

    def __init__(self, unfinished: Unfinished, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._unfinished = unfinished

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._unfinished.add(transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        reads = self.cycle is None or self.cycle.more_body or self.cycle.response_complete
        if reads and self.transport.get_protocol() is self:  # else it is a WebSocket by now
            self._unfinished.add(self.transport)
        else:
            self._unfinished.discard(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unfinished.discard(self.transport)
        super().connection_lost(exc)


class Connections:
    """The open connections of one server. It stands among them itself, to be told when the server stops."""

    def __init__(self, stops: Callable[[], object]) -> None:
        """Calls `stops` when the server stops."""
        self._stops = stops
        self._open: WeakSet[Any] = WeakSet()  # not of transports: uvloop's allow no weak references
        self._among: set[Any] | None = None
        self._warned = False

    def note(self, scope: Scope, send: Send) -> None:
        """Notes the connection of a request, and puts its transport into the request's state."""
        connection = getattr(send, "__self__", None)
        try:
            scope["state"]["transport"] = transport = connection.transport  # type: ignore[union-attr]
            self._open.add(connection)
            if self._among is None:
                self._among = connection.on_response.__self__.server_state.connections  # type: ignore[union-attr]
                self._among.add(self)
            _limit_unsent(transport)
        except AttributeError:
            if not self._warned:
                self._warned = True
                log.warning("this server is not uvicorn as we know it: streams may outlive it, and stalled clients too")

    def shutdown(self) -> None:
        """What uvicorn calls."""
        if self._among is not None:
            self._among.discard(self)
        self._stops()

    def cut_stalled(self) -> None:
        """Cuts each connection whose client does not take what was written, does not send all of its request, or does
        not end its TLS. uvicorn would wait for these without limit."""
        for connection in self._open:
            transport, sends = connection.transport, getattr(connection, "more_body", False)
            # In this order: asyncio's transport for TLS has no buffer any more once it is closing.
            if sends or transport.is_closing() or transport.get_write_buffer_size():
                transport.abort()


def processes(receive: Receive) -> int:
    """How many processes the server runs, by the `receive` of a lifespan. 1 if it does not say."""
    config: Any = getattr(getattr(receive, "__self__", None), "config", None)
    of_gunicorn: Any = getattr(getattr(config, "callback_notify", None), "__self__", None)
    workers = getattr(getattr(of_gunicorn, "cfg", config), "workers", 1)
    return 1 if getattr(config, "should_reload", False) else workers


def limit_requests(receive: Receive, seconds: float) -> None:
    """Has uvicorn cut a connection whose request is not whole after so many seconds, by the `receive` of a lifespan.

    uvicorn's default, httptools, takes headers without end. h11 does not, and costs some 80 us more for each request:
    little beside an answer. Who has chosen another parser keeps it, without these limits."""
    config: Any = getattr(getattr(receive, "__self__", None), "config", None)
    parser = getattr(config, "http", None)
    if parser in ("auto", "h11"):
        config.http_protocol_class = partial(Connection, Unfinished(seconds, _most_unfinished()))
    elif parser:
        log.warning("--http %s: requests have no time limit, and headers without end fill the memory", parser)


def _most_unfinished() -> int:
    """Half of the descriptors that the process may have: the other half is for requests that are whole."""
    if sys.platform == "win32":
        return BACKLOG
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BACKLOG if allowed == resource.RLIM_INFINITY else min(allowed // 2, BACKLOG)


def _limit_unsent(transport: Any) -> None:
    """Has the kernel take little more than it has sent, where it can. Else it takes megabytes at a time, and a client
    that is slow looks like one that takes nothing."""
    option, sock = getattr(socket, "TCP_NOTSENT_LOWAT", None), transport.get_extra_info("socket")
    if option is not None and sock is not None:
        with suppress(OSError, ValueError):  # no TCP, or closed by now
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)

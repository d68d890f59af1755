"""Leans on uvicorn, as `client_limits.py` does: connections that can be cut, and the news that the server stops.

ASGI has no message that cuts a connection. To close one is to wait for its client, even for one that takes nothing. It
has no message either that says "the server stops" before the last response has ended. uvicorn's `send` is a method of
an object, of which we use:
- `transport`, an asyncio.Transport, whose `abort` cuts the connection;
- `more_body`, which is true while the client has not sent all of its request;
- `on_response`, a method of the connection, whose `server_state.connections` are told to `shutdown()` when the server
  stops, with or without a signal. uvicorn waits until that set is empty, and counts it for `--limit-concurrency`.

Under another server, or inside of something that wraps `send`, none of it works, and the log says so once.

ASGI does not say either how many processes the server runs. The `receive` of uvicorn's lifespan is a method of an
object, of which we use `config`: its `workers`, or those of gunicorn's worker, whose method `callback_notify` is.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)
UNSENT_BYTES = 64 * 1024


class Connections:
    """The open connections of one server. It stands among them itself, to be told when the server stops."""

    def __init__(self, stops: Callable[[], object]) -> None:
        """Calls `stops` when the server stops."""
        self._stops = stops
        self._open: WeakSet[Any] = WeakSet()  # not of transports: uvloop's allow no weak references
        self._among: set[Any] | None = None
        self._warned = False

    @property
    def open(self) -> int:
        """How many there are. 0 under another server, and before the first request."""
        return len(self._among) - (self in self._among) if self._among else 0

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


def limit_silence(transport: Any, seconds: float) -> None:
    """Has the kernel cut a connection whose other end has acknowledged nothing for so long, where it can: a machine
    that has lost its power or its network says nothing. Else the kernel goes on sending for a quarter of an hour, and
    keep-alives are so small that it takes them all the while."""
    _set(transport, "TCP_USER_TIMEOUT", int(1000 * seconds))


def _limit_unsent(transport: Any) -> None:
    """Has the kernel take little more than it has sent, where it can. Else it takes megabytes at a time, and a client
    that is slow looks like one that takes nothing."""
    _set(transport, "TCP_NOTSENT_LOWAT", UNSENT_BYTES)


def _set(transport: Any, name: str, value: int) -> None:
    option, sock = getattr(socket, name, None), transport.get_extra_info("socket")
    if option is not None and sock is not None:
        with suppress(OSError, ValueError):  # no TCP, or closed by now
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

"""The one place that leans on uvicorn: connections that can be cut.

ASGI has no message that cuts a connection. To close one is to wait for its client, even for one that takes nothing.
uvicorn's `send` is a method of an object. We use two of its attributes:
- `transport`, an asyncio.Transport, whose `abort` cuts the connection;
- `more_body`, which is true while the client has not sent all of its request.

Under another server, or inside of something that wraps `send`, there is nothing to cut. The log says so once.
"""

import logging
from typing import Any
from weakref import WeakSet

from starlette.types import Scope, Send

log = logging.getLogger(__name__)


class Connections:
    """The open connections of one server."""

    def __init__(self) -> None:
        self._open: WeakSet[Any] = WeakSet()  # not of transports: uvloop's allow no weak references
        self._warned = False

    def note(self, scope: Scope, send: Send) -> None:
        """Notes the connection of a request, and puts its transport into the request's state."""
        connection = getattr(send, "__self__", None)
        if transport := getattr(connection, "transport", None):
            scope["state"]["transport"] = transport
            self._open.add(connection)
        elif not self._warned:
            self._warned = True
            log.warning("this server is not uvicorn: a client that takes nothing can't be cut off")

    def cut_stalled(self) -> None:
        """Cuts each connection whose client does not take what was written, does not send all of its request, or does
        not end its TLS. uvicorn would wait for these without limit."""
        for connection in self._open:
            transport, sends = connection.transport, getattr(connection, "more_body", False)
            if sends or transport.get_write_buffer_size() or transport.is_closing():
                transport.abort()

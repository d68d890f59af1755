"""A TCP port before a server's: what goes through it can be cut, held back or lost."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Pair = tuple[socket.socket, socket.socket]


class Wire:
    def __init__(self, to: int) -> None:
        self.broken = False  # nobody gets through
        self.losing = False  # what the server sends is lost
        self._to = to
        self._flows = threading.Event()
        self._flows.set()
        self._pairs: list[Pair] = []
        self._dead: set[socket.socket] = set()
        self._last: socket.socket | None = None  # the client to whom the server has last sent something
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Nothing that the server sends gets through, until `release`."""
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    def silence(self) -> None:
        """The connection on which something has come last brings nothing any more, and stands."""
        assert self._last
        self._dead.add(self._last)

    def cut(self) -> None:
        """End all connections. New ones get through, unless the wire is broken."""
        # The one in use at last: who comes back at once would else take another that is about to end.
        pairs, self._pairs = sorted(self._pairs, key=lambda pair: pair[0] is self._last), []
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):  # a reset, as when a network is gone
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.broken = True
        self.release()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                if self.broken:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append((client, server))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                self._flows.wait()
                if not self.losing and client not in self._dead:
                    self._last = client
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@contextmanager
def wire(to: int) -> Iterator[Wire]:
    line = Wire(to)
    try:
        yield line
    finally:
        line.close()

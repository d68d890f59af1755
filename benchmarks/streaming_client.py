"""The clients of `streaming.py`: many event streams read in one thread, cheaply, and each checked for what it lacks.

Run as a program it keeps streams open beside a measurement: `python streaming_client.py SERVER PORT PATH STREAMS
EVENTS SPREAD_SECONDS` prints `running` once each stream has had an event, `ending` once one has ended, and exits with 0
when each has ended whole.
"""

import re
import selectors
import socket
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from measuring import TroubleError

MARK = b'"word "'  # stands once in each event that counts, whoever wrote it, and nowhere else
LAST_CHUNK = b"0\r\n\r\n"
READ_BYTES = 256 * 1024
CONNECT_SECONDS = 10.0
STREAMS_SECONDS = 120.0  # far above what any number of streams takes here


class Stream:
    """One response of chunked event stream, counted as it comes."""

    def __init__(self, server: str, port: int) -> None:
        """`server` is the name by which a message speaks of it."""
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS)
        self.seen = 0
        self._before_mark = b""
        self._rest = b""

    def request(self, path: str) -> None:
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    def read(self) -> bool:
        """Give whether there may be more."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        if not self.seen and not self._rest and not data.startswith(b"HTTP/1.1 200 "):
            raise TroubleError(
                f"{self.server}: a stream was answered with {data.splitlines()[0].decode(errors='replace')!r}"
            )
        data = self._rest + data
        self.seen += data.count(MARK)
        before, mark, self._rest = data.rpartition(MARK)
        if mark:
            self._before_mark = before[-64:]
        return True

    def check(self, events: int) -> None:
        """Raises TroubleError unless it had this many events, the last with its number, and its proper end."""
        last = self._before_mark + MARK + self._rest
        numbers = re.findall(rb"id: (\d+)\r?\n", last)
        if self.seen != events or not {b"%d" % events, b"%d" % (events + 1)} & set(numbers):  # an answer has a status
            raise TroubleError(f"{self.server}: a stream of {events} events ended after {self.seen}")
        if not self._rest.endswith(LAST_CHUNK):
            raise TroubleError(
                f"{self.server}: a stream of {events} events ended without the last chunk, with {self._rest[-40:]!r}"
            )


class Streams:
    """Streams of one server, connected at once and requested by `start`. Closes all of them at the block's end."""

    def __init__(self, server: str, port: int, path: str, number: int, events: int) -> None:
        self.begun = 0
        self.ended = 0
        self._server = server
        self._path = path
        self._events = events
        self._selector = selectors.DefaultSelector()
        self._streams: list[Stream] = []
        try:
            for _ in range(number):
                stream = Stream(server, port)
                self._streams.append(stream)
                stream.socket.setblocking(False)
                self._selector.register(stream.socket, selectors.EVENT_READ, stream)
        except OSError as error:
            self.close()
            raise TroubleError(f"{server}: took {len(self._streams)} of {number} connections: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._selector.close()
        for stream in self._streams:
            stream.socket.close()

    def start(self, spread_seconds: float = 0) -> None:
        """Request all streams, evenly over this time."""
        start = time.monotonic()
        for place, stream in enumerate(self._streams):
            ahead = spread_seconds * place / len(self._streams) - (time.monotonic() - start)
            if ahead > 0:
                self.read(ahead)
            stream.request(self._path)

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Read for this time or until the condition holds; give whether it does."""
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in self._selector.select(left):
                stream: Stream = key.data
                new = not stream.seen
                if not stream.read():
                    self._selector.unregister(stream.socket)
                    stream.socket.close()
                    stream.check(self._events)
                    self.ended += 1
                elif new and stream.seen:
                    self.begun += 1
        return True

    def read_until(self, condition: Callable[[], bool]) -> None:
        """Raises TroubleError when the condition takes too long to hold."""
        if not self.read(STREAMS_SECONDS, condition):
            self._late()

    def read_to_end(self) -> None:
        self.read_until(lambda: self.ended == len(self._streams))

    def read_first(self) -> None:
        """Read until each stream has had an event."""
        self.read_until(lambda: self.begun == len(self._streams))

    def _late(self) -> None:
        of = f"of {len(self._streams)} streams {self.begun} have begun and {self.ended} ended"
        raise TroubleError(f"{self._server}: {of}, after {STREAMS_SECONDS:.0f} s")


def seconds_to_first_event(server: str, port: int, path: str) -> float:
    """Open a stream of one event on a connection of its own, and read it to its end."""
    start = time.perf_counter()
    stream = Stream(server, port)
    with stream.socket:
        stream.request(path)
        while not stream.seen and stream.read():
            pass
        seconds = time.perf_counter() - start
        while stream.read():
            pass
    stream.check(1)
    return seconds


def main(server: str, port: str, path: str, number: str, events: str, spread_seconds: str) -> None:
    with Streams(server, int(port), path, int(number), int(events)) as streams:
        streams.start(float(spread_seconds))
        streams.read_first()
        print("running", flush=True)
        streams.read_until(lambda: streams.ended > 0)
        print("ending", flush=True)
        streams.read_to_end()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TroubleError, OSError) as trouble:
        sys.exit(str(trouble))

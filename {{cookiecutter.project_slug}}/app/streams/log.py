"""A log: events in order. An event's place is its id, from 1. Any number of readers wait, each at its own place."""

import asyncio
from collections.abc import Sequence
from sys import getsizeof
from typing import Protocol, runtime_checkable

from app.logs import request_id
from app.streams.events import Done, Error, Event, Reasoning, StreamFault, Token

AHEAD_BYTES = 64 * 1024
BATCH_EVENTS = 256  # so that a reader who is far behind does not hold up the others


@runtime_checkable
class Log(Protocol):
    async def after(self, place: int, seconds: float) -> Sequence[Event] | None:
        """Returns events behind the first `place`, in order: all that are there, or so many at a time. If there are
        none it waits, and returns an empty sequence after `seconds`. Returns None behind the end.

        Raises StreamFault if these are not the events that the reader was reading: it must come back for the others.
        """


class MemoryLog:
    """Keeps its events in memory. The first `Done` is its end. With `one_reader`, it lets go of what that has read, and
    is full with AHEAD_BYTES of the rest."""

    def __init__(self, one_reader: bool = False) -> None:
        self.end: Done | None = None
        self._one_reader = one_reader
        self._events: list[Event] = []
        self._gone = 0  # events that were let go of
        self.bytes = 0
        self._readers: set[asyncio.Future[None]] = set()
        self._space: asyncio.Future[None] | None = None
        self.was_cut = False

    def __len__(self) -> int:
        return self._gone + len(self._events)

    @property
    def full(self) -> bool:
        return self._one_reader and self.bytes >= AHEAD_BYTES

    async def wait_for_space(self) -> None:
        """Returns when it is not full. Only one may wait: who writes the log."""
        while self.full:
            self._space = asyncio.get_running_loop().create_future()
            await self._space

    def append(self, *events: Event) -> None:
        """What would be behind the end is left out."""
        for event in events:
            if not self.end:
                self.bytes += size(event)
                self._events.append(event)
                self.end = event if isinstance(event, Done) else None
        self._wake_readers()

    def cut(self) -> None:
        """Sends its readers away: it is not the log any more that others read. They can come back, and read that."""
        self.was_cut = True
        self._wake_readers()

    @property
    def end_place(self) -> int:
        """Of a log that has ended: the place before its last events, an `error` if there is one, and `done`."""
        return len(self) - (2 if isinstance(self._events[-2:][0], Error) else 1)

    def behind(self, place: int) -> Sequence[Event]:
        """The events behind the first `place` that are there, or BATCH_EVENTS of them."""
        start = place - self._gone
        return self._events[start : start + BATCH_EVENTS]

    async def after(self, place: int, seconds: float) -> Sequence[Event] | None:
        if self._one_reader:
            self.bytes -= sum(map(size, self._events[: place - self._gone]))
            del self._events[: place - self._gone]
            self._gone = place
            if self._space:
                _wake(self._space)
        ahead = place > len(self)  # it names a place that the log has not reached
        if place >= len(self) and not self.end:
            await self._wait(place, seconds)
        if self.was_cut or (self.end and ahead and place > self.end_place):  # what it has read there was something else
            raise come_back()
        ready = self.behind(place)
        return ready if ready or not self.end else None

    async def _wait(self, place: int, seconds: float) -> None:
        """For an event behind `place`, for the end, or for so long."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        while place >= len(self) and not (self.end or self.was_cut) and (left := over - loop.time()) > 0:
            self._readers.add(reader := loop.create_future())
            silence = loop.call_later(left, _wake, reader)
            try:
                await reader
            finally:
                silence.cancel()
                self._readers.discard(reader)

    def _wake_readers(self) -> None:
        while self._readers:
            _wake(self._readers.pop())


def come_back() -> StreamFault:
    """What a connection says that ends before the log does."""
    return StreamFault(Error("server_shutdown", "The server is restarting.", True, request_id.get()), "shutdown")


def size(event: Event) -> int:
    """About how many bytes of memory it takes."""
    return 150 + getsizeof(event.text if isinstance(event, Token | Reasoning) else str(event.data()))


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)

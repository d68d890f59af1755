"""The way of events to one client: in order, numbered, nothing after a `Done`.

Events that are ready together go out in one piece, and none waits for another. So:
- a source is stepped by hand, for only that shows whether its next event is there or has to be waited for. A step
  costs a tenth of an event, so a source whose events come one by one is asked straight for most of them;
- a cancellation in the middle of a step belongs to the source, also where it arrives while a piece is being sent, and
  goes the way it would go in a task;
- a source that never waits gives the loop a turn after a few pieces, or it would starve the process.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Generator
from time import monotonic  # not the loop's own, which in uvloop stands still within a turn
from types import coroutine
from typing import Any, NoReturn

from starlette.types import Send

from app.streams.events import Done, Encoder, Event, KeepAlive

log = logging.getLogger(__name__)
# How much of what is ready together makes a piece: none waits longer than this for the others.
PIECE_SECONDS = 0.001
PIECE_EVENTS = 64
PIECE_BYTES = 32 * 1024


class Wire:
    def __init__(self, send: Send, encoder: Encoder, first_id: int) -> None:
        self.sending = False
        self.since = monotonic()  # when the last piece began to be sent, and again when it was out
        self.torn = False  # a piece was interrupted: nobody knows whether it is out
        self.done = False
        self.ended = False
        self.closing = False
        self.told = False  # the source has been cancelled
        self.beating: asyncio.Task[None] | None = None
        self._send = send
        self._encoder = encoder
        self._next_id = first_id
        self._frames: list[bytes] = []
        self._bytes = 0
        self._waited = False

    async def carry(self, source: AsyncIterator[Event]) -> None:
        """Sends until the source ends or says `Done`. Raises what it raises; the events before that go with the end."""
        straight = pause = 1
        step, send, encoder = source.__anext__, self._send, self._encoder
        try:
            while not self.done:
                if not straight:
                    self.add(await self._step(source))
                    if self._waited:
                        straight = pause = min(2 * pause + 1, 15)
                        await self._flush()
                        continue
                    pause = 0
                    if self.done or self._is_piece():
                        await self._flush()
                        await asyncio.sleep(0)
                        self.since = monotonic()
                    continue
                straight -= 1
                event = await step()
                frame = encoder(event, self._next_id)
                self._next_id += 1
                self.done = isinstance(event, Done)
                if self.beating is not None or self.torn:
                    self._frames.append(frame)
                    await self._flush()
                    continue
                self.sending = True  # as in _put, but a call more would be felt: most events go this way
                self.since = monotonic()
                try:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
                except (Exception, asyncio.CancelledError) as error:
                    self.told = True
                    self._tear(error)
                self.sending = False
                self.since = monotonic()
                if self.closing:
                    self.told = True
                    raise asyncio.CancelledError
        except StopAsyncIteration:
            pass

    def add(self, event: Event, numbered: bool = True) -> None:
        """To what goes out next."""
        if not self.done:
            self._frames.append(frame := self._encoder(event, self._next_id if numbered else None))
            self._bytes += len(frame)
            self._next_id += numbered
            self.done = isinstance(event, Done)

    def _is_piece(self) -> bool:
        if len(self._frames) >= PIECE_EVENTS or self._bytes >= PIECE_BYTES:
            return True
        return monotonic() - self.since >= PIECE_SECONDS

    async def end(self, *events: Event, numbered: bool = True) -> None:
        """Sends what has gathered and `events`, and that this was all."""
        self.closing = False
        for event in events:
            self.add(event, numbered)
        await self._flush(more=False)

    def beat(self, silence: float) -> None:
        """Sends a keep-alive, unless something else goes out first. None follows a `Done`."""
        self.beating = asyncio.create_task(self._beat(silence, self._encoder(KeepAlive(), None)))

    async def _beat(self, silence: float, frame: bytes) -> None:
        if not (self.sending or self.done) and monotonic() - self.since >= silence:
            await self._put(frame)

    def close(self, writing: "asyncio.Task[None]") -> None:
        """Cancels `writing`, once."""
        self.closing = True
        if not self.told:
            self.told = True
            writing.cancel()

    @coroutine
    def _step(self, source: AsyncIterator[Event]) -> Generator[Any, None, Event]:
        """The source's next event. When it has to be waited for, those before it go out first."""
        step = source.__anext__().__await__()
        self._waited = False
        try:
            waits_for = step.send(None)
            self._waited = True
            if self._frames:
                # Others may wait for the same future, and asyncio tells its waiters apart by this flag.
                if shared := getattr(waits_for, "_asyncio_future_blocking", False):
                    waits_for._asyncio_future_blocking = False
                try:
                    yield from self._flush()
                except BaseException as error:
                    # As a task does it: what is waited for is cancelled first, where there is such a thing.
                    if not (shared and isinstance(error, asyncio.CancelledError) and waits_for.cancel()):
                        shared = False
                        waits_for = step.throw(error)
                if shared:
                    waits_for._asyncio_future_blocking = True
            while True:
                try:
                    yield waits_for
                except BaseException as error:
                    waits_for = step.throw(error)
                else:
                    waits_for = step.send(None)
        except StopIteration as stepped:
            event: Event = stepped.value
            return event

    async def _flush(self, more: bool = True) -> None:
        if self.beating is not None:
            await asyncio.wait({self.beating})
            self.beating = None
        piece = b"".join(self._frames)
        self._frames.clear()
        self._bytes = 0
        try:
            await self._put(piece, more)
        except asyncio.CancelledError:
            self.told = True
            raise
        if self.closing and more:
            self.told = True
            raise asyncio.CancelledError

    async def _put(self, piece: bytes, more: bool = True) -> None:
        if self.torn:
            raise asyncio.CancelledError
        self.sending = True
        self.since = monotonic()
        try:
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        except (Exception, asyncio.CancelledError) as error:
            self._tear(error)
        self.sending = False
        self.ended = not more
        self.since = monotonic()

    def _tear(self, error: BaseException) -> NoReturn:
        self.torn = self.closing = True
        if not isinstance(error, OSError | asyncio.CancelledError):  # an OSError may say that the client has left
            log.error("sending failed", exc_info=error)
        raise asyncio.CancelledError from None

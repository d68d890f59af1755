"""The way of events to one client: in order, numbered, nothing after a `Done`.

Events that are ready together go out in one piece, and none waits for another. So:
- a source is stepped by hand, for only that shows whether its next event is there or has to be waited for. A step
  costs a tenth of an event, so a source whose events come one by one is asked straight for most of them;
- a cancellation in the middle of a step belongs to the source, wherever it arrives;
- a source that never waits gives the loop a turn after each piece, or it would starve the process.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Generator
from time import monotonic  # not the loop's own, which in uvloop stands still within a turn
from types import coroutine
from typing import Any

from starlette.types import Send

from app.streams.events import Done, Encoder, Event, KeepAlive

log = logging.getLogger(__name__)
PIECE_SECONDS = 0.001
PIECE_BYTES = 32 * 1024


class Wire:
    def __init__(self, send: Send, encoder: Encoder, first_id: int) -> None:
        self.sending = False
        self.since = monotonic()  # when the last piece began to be sent, and again when it was out
        self.torn = False  # a piece was interrupted: nobody knows whether it is out
        self.done = False
        self.ended = False
        self.closing = False
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
        try:
            while not self.done:
                if straight:
                    straight -= 1
                    frame = self._frame(await source.__anext__())
                    if self.beating is None:
                        await self._put(frame)
                        continue
                    self._frames.append(frame)
                    await self._flush()
                    continue
                self.add(await self._step(source))
                if self._waited:
                    straight = pause = min(2 * pause + 1, 15)
                    await self._flush()
                else:
                    pause = 0
                    if self.done or self._bytes >= PIECE_BYTES or monotonic() - self.since >= PIECE_SECONDS:
                        await self._flush()
                        await asyncio.sleep(0)
        except StopAsyncIteration:
            pass

    def add(self, event: Event, numbered: bool = True) -> None:
        """To what goes out next."""
        if not self.done:
            self._frames.append(frame := self._frame(event, numbered))
            self._bytes += len(frame)

    async def end(self, *events: Event, numbered: bool = True) -> None:
        """Sends what has gathered and `events`, and that this was all."""
        self.closing = False
        for event in events:
            self.add(event, numbered)
        await self._flush(more=False)

    def beat(self) -> None:
        """Sends a keep-alive, where nothing is being sent. None follows a `Done`."""
        if not self.done:
            self.beating = asyncio.create_task(self._put(self._encoder(KeepAlive(), None)))

    def close(self, writing: "asyncio.Task[None]", grace: float = 0.0) -> None:
        """Cancels `writing`, once; a piece that it is sending may take another `grace` seconds."""
        self.closing = True
        if grace and self.sending and (self.beating is None or self.beating.done()):
            asyncio.get_running_loop().call_later(grace, self._give_up, writing)
        elif not writing.cancelling():
            writing.cancel()

    def _give_up(self, writing: "asyncio.Task[None]") -> None:
        if self.sending:
            self.close(writing)

    @coroutine
    def _step(self, source: AsyncIterator[Event]) -> Generator[Any, None, Event]:
        """The source's next event. When it has to be waited for, those before it go out first."""
        step = source.__anext__().__await__()
        self._waited = False
        try:
            waits_for = step.send(None)
            self._waited = True
            flushing: Any = self._flush() if self._frames else ()
            while True:
                try:
                    yield from flushing
                    yield waits_for
                except BaseException as error:
                    waits_for = step.throw(error)
                else:
                    waits_for = step.send(None)
                flushing = ()
        except StopIteration as stepped:
            event: Event = stepped.value
            return event

    def _frame(self, event: Event, numbered: bool = True) -> bytes:
        frame = self._encoder(event, self._next_id if numbered else None)
        self._next_id += numbered
        self.done = isinstance(event, Done)
        return frame

    async def _flush(self, more: bool = True) -> None:
        if self.beating is not None:
            await asyncio.wait({self.beating})
            self.beating = None
        piece = b"".join(self._frames)
        self._frames.clear()
        self._bytes = 0
        await self._put(piece, more)

    async def _put(self, piece: bytes, more: bool = True) -> None:
        self.sending = True
        self.since = monotonic()
        try:
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        except (Exception, asyncio.CancelledError) as error:
            self.torn = self.closing = True
            if not isinstance(error, OSError | asyncio.CancelledError):  # an OSError may say that the client has left
                log.exception("sending failed")
            raise asyncio.CancelledError from None
        self.sending = False
        self.ended = not more
        self.since = monotonic()
        if self.closing and more:
            raise asyncio.CancelledError

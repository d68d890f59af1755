"""Learns of SIGTERM before the server waits for open requests, and ends what outlives the drain time.

uvicorn tells an application of the shutdown only after the last response has ended. So one open stream would hold it
for ever. The signal handlers of uvicorn are wrapped, not replaced: a second SIGINT still kills. It ends the
drain time too, for what runs without a connection.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import FrameType
from typing import Any

from app.connections import Connections
from app.contain import contained, leave_behind

log = logging.getLogger(__name__)
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
CLEANUP_SECONDS = 5.0
GRACE_SECONDS = 0.5  # after the drain time: for what an ended stream still has to do, and for clients to take the rest


class Shutdown:
    """Whether the server is going down, and what must be ended then.

    `draining` is true from the signal on, and `expired` when the drain time is over. The drain time is in seconds.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.drain_seconds = drain_seconds
        self.draining = False
        self.expired = False
        self.connections = Connections(self.begin)
        self._endings: dict[object, Callable[[], object]] = {}

    @contextmanager
    def at_limit(self, end: Callable[[], object], longest: float | None = None) -> Iterator[None]:
        """Calls `end` if the block still runs when the drain time is over, and after `longest` seconds.

        A block that begins after the drain time has GRACE_SECONDS.
        """
        entry = object()
        self._endings[entry] = end
        seconds = GRACE_SECONDS if self.expired else longest
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, end)
        try:
            yield
        finally:
            del self._endings[entry]
            if timer:
                timer.cancel()

    async def limit(self, work: Coroutine[Any, Any, None], name: str) -> bool:
        """Waits for `work`, and raises what it raises. At the limit, cancels it, logs that, and returns False. What has
        not ended CLEANUP_SECONDS later is left behind."""
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(contained(work))
        try:
            with self.at_limit(expired.cancel):
                await asyncio.wait({task, expired}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CLEANUP_SECONDS)
            if not task.done():
                leave_behind(task)
        if task.done():
            work.close()  # it may not have begun
        if not expired.done():
            await task
            return True
        log.error("%s cancelled: the drain time is over", name)
        if not task.done():
            log.error("%s has not ended in %g s: it is left behind", name, CLEANUP_SECONDS)
        elif not task.cancelled() and (failure := task.exception()):
            raise failure
        return False

    def begin(self) -> None:
        """Starts the drain time, once. Must be called on the event loop."""
        if not self.draining:
            self.draining = True
            said = "draining: what still runs in %g s is ended"
            log.info(said, self.drain_seconds, extra={"connections": self.connections.open})
            asyncio.get_running_loop().call_later(self.drain_seconds, self._expire)

    def _expire(self) -> None:
        """Also called when somebody hurries."""
        loop = asyncio.get_running_loop()
        if not self.expired:
            self.expired = True
            loop.call_later(GRACE_SECONDS, self._cut)
        for end in self._endings.values():
            loop.call_soon(end)  # each by itself: one that raises spoils no other

    def _cut(self) -> None:
        self.connections.cut_stalled()
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cut)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Begins the drain when a signal comes, and then calls the handler that was there before.

        Outside the main thread it does nothing: Python allows no signal handlers there.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, context = asyncio.get_running_loop(), copy_context()  # not the context of the request that is interrupted
        wrapped = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}

        def handle(number: int, frame: FrameType | None) -> None:
            hurries = self.draining and number == signal.SIGINT
            loop.call_soon_threadsafe(self._expire if hurries else self.begin, context=context)
            wrapped[signal.Signals(number)](number, frame)

        for number in wrapped:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in wrapped.items():
                signal.signal(number, handler)

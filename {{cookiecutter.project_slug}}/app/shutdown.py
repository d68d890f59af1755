"""Learns of SIGTERM before the server waits for open requests, and ends what outlives the drain time.

uvicorn tells an application that it is going down only after the last response has ended, so one open stream
would hold it for ever. The signal handlers found at start-up are wrapped, not replaced: a second SIGINT still kills.
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

log = logging.getLogger(__name__)
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
GRACE_SECONDS = 0.5  # beyond the drain time: for what an ended stream leaves to do, and for a client to take the rest


class Shutdown:
    def __init__(self, drain_seconds: float) -> None:
        self.drain_seconds = drain_seconds
        self.draining = False
        self.expired = False
        self.connections = Connections()
        self._endings: dict[object, Callable[[], object]] = {}

    @contextmanager
    def at_limit(self, end: Callable[[], object]) -> Iterator[None]:
        """Calls `end` when the drain time is over while the block still runs; GRACE_SECONDS later if it is over."""
        entry = object()
        self._endings[entry] = end
        late = asyncio.get_running_loop().call_later(GRACE_SECONDS, end) if self.expired else None
        try:
            yield
        finally:
            del self._endings[entry]
            if late:
                late.cancel()

    async def limit(self, work: Coroutine[Any, Any, None], name: str) -> bool:
        """Waits for `work`, which is cancelled at the limit; False when it was."""
        task = asyncio.create_task(work)
        with self.at_limit(task.cancel):
            try:
                await task
            except asyncio.CancelledError:
                if not (self.expired and task.cancelled()):
                    raise
                log.error("%s cancelled: the drain time is over", name)
                return False
        return True

    def begin(self) -> None:
        """Starts the drain time. Must be called on the event loop."""
        if not self.draining:
            self.draining = True
            log.info("draining: what still runs in %g s is ended", self.drain_seconds)
            asyncio.get_running_loop().call_later(self.drain_seconds, self._expire)

    def _expire(self) -> None:
        self.expired = True
        for end in list(self._endings.values()):
            end()
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cut)

    def _cut(self) -> None:
        self.connections.cut_stalled()
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cut)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Does nothing outside the main thread, where Python allows no signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, context = asyncio.get_running_loop(), copy_context()  # not the context of the request that is interrupted
        wrapped = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}

        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.begin, context=context)
            wrapped[signal.Signals(number)](number, frame)

        for number in wrapped:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in wrapped.items():
                signal.signal(number, handler)

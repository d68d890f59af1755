"""Runs a source of events into a log. The log gets exactly one end, whatever the source does.

The source has a task of its own, which is cancelled only once: so its cleanup can await. A cancel scope would cancel
each of these awaits. The time limit and the end come from outside that task, for nothing inside of it ends what hangs.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context

import anyio

from app.contain import leave_behind
from app.logs import request_id
from app.streams.events import Done, Error, Event, KeepAlive, StreamFault
from app.streams.log import MemoryLog

log = logging.getLogger(__name__)
CLEANUP_SECONDS = 5.0
GIVE_WAY = 16  # events, after which a source that never waits lets others run

Last = tuple[Event, ...]
TimeLeft = Callable[[], float]
"""Seconds after which to ask again. Raises the StreamFault that ends the source when its time is over."""


class Run:
    """A source that runs into a log. `closed` is done when the source has closed and the log has its end."""

    def __init__(
        self,
        source: AsyncIterator[Event],
        into: MemoryLog,
        time_left: TimeLeft | None = None,
        context: Context | None = None,
    ) -> None:
        """All of it runs in the `context`: by default in copies of the one that is now."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._source = source
        self._into = into
        self._time_left = time_left
        self._context = context
        self._last: Last | None = None  # the end of the log, as soon as it is known
        self._begun = False  # a task that is cancelled before it begins runs nothing, so the source would not close
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._fill(), context=context)
        self._task.add_done_callback(self._close)
        self._look_at_the_time()

    @property
    def last(self) -> Last | None:
        """What the log will end with, as soon as it is known: the source may have to close yet."""
        return self._last

    def stop(self, *last: Event) -> None:
        """Closes the source. The log ends with `last`, which ends in a `Done`, unless its end was known before."""
        if self._last is None and self._begun:
            self._task.cancel()
        self._end_with(last)

    async def close(self) -> None:
        """Stops the source if it still runs. Returns when it has closed, or has been left behind."""
        self.stop(Done("cancelled"))
        with anyio.CancelScope(shield=True):  # whoever has cancelled the caller may cancel each `await` of it
            await asyncio.wait({self.closed})

    def _look_at_the_time(self) -> None:
        if self._time_left:
            try:
                self._call_later(self._time_left(), self._look_at_the_time)
            except StreamFault as fault:
                self.stop(fault.error, Done(fault.reason))
            except Exception:
                log.exception("stream failed")
                self.stop(*internal_error())

    def _end_with(self, last: Last) -> None:
        if self._last is None:
            self._last = last
            self._call_later(CLEANUP_SECONDS, self._leave_behind)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback, context=self._context)

    def _leave_behind(self) -> None:
        if not self._task.done():
            log.error("a source of events has not closed in %g s: it is left behind", CLEANUP_SECONDS)
            self._task.cancel()  # it may have swallowed the first
            leave_behind(self._task)
            self._close()

    def _close(self, _task: object = None) -> None:
        """Called again when a source that was left behind closes at last. That changes nothing."""
        if self._timer:
            self._timer.cancel()
        self._last = self._last or internal_error()
        self._into.append(*self._last)
        if not self.closed.done():
            self.closed.set_result(None)

    async def _fill(self) -> None:
        self._begun = True
        if self._last is None:
            await self._contain(self._carry)
        if aclose := getattr(self._source, "aclose", None):  # a plain iterator has none
            await self._contain(aclose)

    async def _contain(self, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except BaseException as error:  # also what is no Exception: `sys.exit()` in a source must not end the server
            if not (self._last and isinstance(error, asyncio.CancelledError)):
                log.exception("stream failed")
            self._end_with(internal_error())

    async def _carry(self) -> None:
        number = 0
        try:
            async for event in self._source:
                if self._last is not None:  # it has swallowed its cancellation
                    return
                if isinstance(event, Done):
                    self._end_with((event,))
                    return
                if not isinstance(event, Event) or isinstance(event, KeepAlive):
                    raise TypeError(f"a source yields events, not {type(event).__name__}")
                self._into.append(event)
                number += 1
                if self._into.full:
                    await self._into.wait_for_space()
                elif number % GIVE_WAY == 0:
                    await asyncio.sleep(0)
            self._end_with((Done(),))
        except StreamFault as fault:
            self._end_with((fault.error, Done(fault.reason)))


def internal_error() -> Last:
    return Error("internal_error", "Something went wrong on our side.", True, request_id.get()), Done("error")

"""Runs a source of events into a log. The log gets exactly one end, whatever the source does.

The source has a task of its own, which is cancelled only once: so its cleanup can await. A cancel scope would cancel
each of these awaits. The time limit and the end come from outside that task, for nothing inside of it ends what hangs.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import anyio

from app.contain import was_cancelled
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

    def __init__(self, source: AsyncIterator[Event], into: MemoryLog, time_left: TimeLeft | None = None) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._source = source
        self._into = into
        self._time_left = time_left
        self._last: Last | None = None  # the end of the log, as soon as it is known
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._fill())
        self._task.add_done_callback(self._close)
        self._look_at_the_time()

    def stop(self, *last: Event) -> None:
        """Closes the source. The log ends with `last`, unless the source has come to its end before."""
        if self._last is None:
            self._end_with(last)
            self._task.cancel()

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
        self._last = last
        self._call_later(CLEANUP_SECONDS, self._leave_behind)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    def _leave_behind(self) -> None:
        log.error("a source of events has not closed in %g s: it is left behind", CLEANUP_SECONDS)
        self._task.cancel()  # it may have swallowed the first
        self._task.remove_done_callback(self._close)
        self._close()

    def _close(self, _task: object = None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._last is None:
            log.error("stream failed: its source has cancelled itself")
        self._into.append(*(self._last or internal_error()))
        self.closed.set_result(None)

    async def _fill(self) -> None:
        try:
            try:
                last = await self._carry()
                if self._last is None:
                    self._end_with(last)
            finally:
                if aclose := getattr(self._source, "aclose", None):  # a plain iterator has none
                    await aclose()
        except BaseException as error:  # also what is no Exception: `sys.exit()` in a source must not end the server
            if was_cancelled(error):
                raise
            log.exception("stream failed")
            self._last = self._last or internal_error()

    async def _carry(self) -> Last:
        """Returns the end."""
        number = 0
        try:
            async for event in self._source:
                if isinstance(event, Done):
                    return (event,)
                if not isinstance(event, Event) or isinstance(event, KeepAlive):
                    raise TypeError(f"a source yields events, not {type(event).__name__}")
                self._into.append(event)
                number += 1
                if self._into.full:
                    await self._into.room()
                elif number % GIVE_WAY == 0:
                    await asyncio.sleep(0)
        except StreamFault as fault:
            return fault.error, Done(fault.reason)
        return (Done(),)


def internal_error() -> Last:
    return Error("internal_error", "Something went wrong on our side.", True, request_id.get()), Done("error")

"""Runs a source of events into a log. The log gets exactly one end, whatever the source does.

The source has a task of its own, which is cancelled only once: so its cleanup can await. A cancel scope would cancel
each of these awaits. The source is watched from outside its task, for nothing inside of a task ends what hangs there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from app.contain import was_cancelled
from app.logs import request_id
from app.streams.events import Done, Error, Event, StreamFault
from app.streams.log import Log, MemoryLog

log = logging.getLogger(__name__)
CLEANUP_SECONDS = 5.0
GIVE_WAY = 16  # events, after which a source that never waits lets others run

Last = tuple[Event, ...]
TimeLeft = Callable[[], float]
"""Seconds after which to ask again. Raises the StreamFault that ends the source when its time is over."""


@asynccontextmanager
async def log_of(events: Log | AsyncIterator[Event], time_left: TimeLeft | None = None) -> AsyncIterator[Log]:
    """Gives a log as it is. Runs an iterator into a log for one reader, and closes it when the block is left."""
    if isinstance(events, Log):
        yield events
        return
    into, stopping = MemoryLog(one_reader=True), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run(events, into, stopping, time_left))
    try:
        yield into
    finally:
        stopping.cancel()
        with anyio.CancelScope(shield=True):  # whoever has cancelled the block may cancel each `await` of it
            await asyncio.wait({running})


async def run(
    source: AsyncIterator[Event], into: MemoryLog, stopping: "asyncio.Future[None]", time_left: TimeLeft | None = None
) -> None:
    """Returns when the source has closed and the log has its end. Closes the source when `stopping` is done. What has
    not closed in CLEANUP_SECONDS is left behind."""
    end: asyncio.Future[Last] = asyncio.get_running_loop().create_future()
    filling = asyncio.create_task(_fill(source, into, end))
    waits: set[asyncio.Future[Any]] = {end, filling, stopping}
    last: Last = (Done("cancelled"),)
    try:
        while not any(each.done() for each in waits):
            left = time_left() if time_left else None
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    except StreamFault as fault:
        last = fault.error, Done(fault.reason)
    except Exception:
        log.exception("stream failed")
        last = internal_error()
    if end.done():
        last = end.result()
    elif filling.done():
        log.error("stream failed: its source has cancelled itself")
        last = internal_error()
    else:
        filling.cancel()
    await asyncio.wait({filling}, timeout=CLEANUP_SECONDS)
    if not filling.done():
        log.error("a source of events has not closed in %g s: it is left behind", CLEANUP_SECONDS)
        filling.cancel()  # it may have swallowed the first
    into.append(*last)


async def _fill(source: AsyncIterator[Event], into: MemoryLog, end: "asyncio.Future[Last]") -> None:
    try:
        try:
            end.set_result(await _carry(source, into))
        finally:
            if aclose := getattr(source, "aclose", None):  # a plain iterator has none
                await aclose()
    except BaseException as error:  # also what is no Exception: `sys.exit()` in a source must not end the server
        if was_cancelled(error):
            raise
        log.exception("stream failed")
        if not end.done():
            end.set_result(internal_error())


async def _carry(source: AsyncIterator[Event], into: MemoryLog) -> Last:
    """Returns the end."""
    number = 0
    try:
        async for event in source:
            if isinstance(event, Done):
                return (event,)
            if not isinstance(event, Event):
                raise TypeError(f"a source yields events, not {type(event).__name__}")
            into.append(event)
            number += 1
            if into.full:
                await into.until_not_full()
            elif number % GIVE_WAY == 0:
                await asyncio.sleep(0)
    except StreamFault as fault:
        return fault.error, Done(fault.reason)
    return (Done(),)


def internal_error() -> Last:
    return Error("internal_error", "Something went wrong on our side.", True, request_id.get()), Done("error")

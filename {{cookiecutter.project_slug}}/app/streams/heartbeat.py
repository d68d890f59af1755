"""Tells silence from data, for any async iterator, without ever cancelling a wait for its next item.

Must stay as it is:
- the source runs in one task of its own from its first item to its last, so that what it holds open between
  two items (`asyncio.timeout`, a cancel scope, a context variable) is closed by the task that opened it;
- that task is cancelled once, by `task.cancel()`: an `await` in the `finally` that this brings the source to runs
  to its end, where under a cancel scope each one would be cancelled again;
- it waits for room after `AHEAD` items, so a source that never suspends can't starve the process, and no more
  than that is asked of a source whose items nobody takes.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)
AHEAD = 16
CLEANUP_SECONDS = 5.0


async def heartbeat(source: AsyncIterator[T], seconds: float) -> AsyncGenerator[list[T], None]:
    """Yields what `source` has made since the last time; an empty list, the beat, after each `seconds` of silence.

    Raises what the source raises, after the items that came before it. The second item is asked of the source only
    when the first has been dealt with, that is when this generator is resumed. Close it (`aclosing`) to close the
    source, which gets `CLEANUP_SECONDS` for that.
    """
    ready: list[T] = []
    room_for = 1
    news, room = asyncio.Event(), asyncio.Event()

    async def pump() -> None:
        try:
            async for item in source:
                ready.append(item)
                news.set()
                if len(ready) >= room_for:
                    room.clear()
                    await room.wait()
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    pumping = asyncio.create_task(pump())
    pumping.add_done_callback(lambda _: news.set())
    try:
        while True:
            try:
                async with asyncio.timeout(seconds):
                    await news.wait()
            except TimeoutError:
                yield []
                continue
            news.clear()
            if ready:
                batch = ready.copy()
                ready.clear()
                yield batch
                room_for = AHEAD
            elif pumping.cancelled():
                raise RuntimeError("the source of events cancelled itself")
            elif pumping.done():
                pumping.result()
                return
            room.set()
    finally:
        await _closed(pumping)


async def _closed(pumping: "asyncio.Task[None]") -> None:
    if pumping.done():
        return
    pumping.cancel()
    await asyncio.wait({pumping}, timeout=CLEANUP_SECONDS)
    if not pumping.done():
        log.error("a source of events has not closed in %g s", CLEANUP_SECONDS)
        pumping.cancel()  # it may have swallowed the first
    elif not pumping.cancelled() and (error := pumping.exception()):
        log.error("a source of events failed while it was closed", exc_info=error)

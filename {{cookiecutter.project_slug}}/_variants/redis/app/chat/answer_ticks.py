"""A task that repeats one step as long as there is something to do."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)


@asynccontextmanager
async def repeated(
    step: Callable[[], Awaitable[bool]], wake: asyncio.Event, tick: float, pause: float, name: str
) -> AsyncIterator[None]:
    """While the block runs, calls `step` each `tick` seconds, or `pause` seconds after it has returned False or failed.
    `step` clears `wake` when there is nothing to do."""

    async def repeat() -> None:
        while True:
            await wake.wait()
            try:
                well = await step()
            except Exception:
                log.exception("the %s has failed, and tries again", name)
                well = False
            await asyncio.sleep(tick if well else pause)

    task = asyncio.create_task(repeat(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})

"""An hour of two web processes, 10,000 queued jobs and no worker, by a clock that is not the machine's.

Prints how many messages the two have made, and in how many looks.
"""
# mypy: disable-error-code="import-not-found", disallow-any-unimported=False

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from app.jobs import backend
from app.jobs.queue import RELAY_SECONDS, JobQueue
from app.jobs.settings import JobSettings
from app.jobs.tasks import Probe, last
from app.shutdown import Shutdown

JOBS = 10_000
HOUR_SECONDS = 3600


@asynccontextmanager
async def by_hand(self: Any) -> AsyncIterator[None]:
    yield


async def main() -> None:
    now = time.time()
    JobQueue.relaying = by_hand
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(backend.open(JobSettings.read(), Shutdown(0))) for _ in range(2)]
        relays = [JobQueue(jobs.store, jobs.backend, lambda: now) for jobs in opened]
        for first in range(0, JOBS, 100):
            await asyncio.gather(*(relays[0].enqueue(last, Probe(number=first + n), caller="c") for n in range(100)))
        messages = looks = 0
        for jobs in opened:
            dispatch = jobs.backend.dispatch

            async def counted(handed: Any, dispatch: Any = dispatch) -> None:
                nonlocal messages
                messages += len(handed)
                await dispatch(handed)

            jobs.backend.dispatch = counted
        for _ in range(int(HOUR_SECONDS / RELAY_SECONDS)):
            found = 1
            while found:  # as a relay does that has found something to do
                found = sum(await asyncio.gather(*(relay.dispatch_due() for relay in relays)))
                looks += len(relays)
            now += RELAY_SECONDS
    print(messages, looks)


asyncio.run(main())

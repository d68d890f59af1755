"""An hour of two web processes, 10,000 queued jobs and no worker, by a clock that is not the machine's.

Prints how many messages the two have made, and in how many looks.
"""
# mypy: disable-error-code="import-not-found", disallow-any-unimported=False

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from app.jobs.backend import open_backend
from app.jobs.queue import JobQueue
from app.jobs.relay import RELAY_SECONDS, Relay
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.jobs.tasks import Probe, last
from app.shutdown import Shutdown

JOBS = 10_000
HOUR_SECONDS = 3600


async def main() -> None:
    now = time.time()

    async def clock() -> float:
        return now

    async with AsyncExitStack() as stack:
        settings, wake = JobSettings.read(), asyncio.Event()
        backends, relays = [], []
        for _ in range(2):
            store = await stack.enter_async_context(Store.open(settings))
            store.now = clock
            backend = await stack.enter_async_context(open_backend(settings, store, Shutdown(0), wake))
            backends.append(backend)
            relays.append(Relay(store, backend, wake, settings.job_lease_seconds))
        accepting = JobQueue(store, wake)
        for first in range(0, JOBS, 100):
            await asyncio.gather(*(accepting.enqueue(last, Probe(number=first + n), caller="c") for n in range(100)))
        messages = looks = 0
        for each in backends:
            dispatch = each.dispatch

            async def counted(handed: Any, dispatch: Any = dispatch) -> None:
                nonlocal messages
                messages += len(handed)
                await dispatch(handed)

            each.dispatch = counted
        for _ in range(int(HOUR_SECONDS / RELAY_SECONDS)):
            found = 1
            while found:  # as a relay does that has found something to do
                found = sum(await asyncio.gather(*(relay.dispatch_due() for relay in relays)))
                looks += len(relays)
            now += RELAY_SECONDS
    print(messages, looks)


asyncio.run(main())

"""Runs jobs in the web process. They are not durable: a restart forgets every job, finished or not."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.jobs.queue import JobQueue
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.shutdown import Shutdown

log = logging.getLogger(__name__)
AT_ONCE = 4


@asynccontextmanager
async def open(settings: JobSettings, shutdown: Shutdown) -> AsyncIterator[JobQueue]:  # noqa: A001
    if os.environ.get("WEB_CONCURRENCY", "1") not in ("", "0", "1"):
        log.warning("WEB_CONCURRENCY is above 1, but each process knows its own jobs only: others answer 404")
    store = Store(settings.job_retention_seconds)
    free = asyncio.Semaphore(AT_ONCE)
    running: set[asyncio.Task[None]] = set()

    async def attempt(job_id: str) -> None:
        async with free:
            with suppress(Exception):  # the runner has logged it and written it down
                await run(store, job_id, settings)

    async def dispatch(job_id: str) -> None:
        if not shutdown.draining:
            task = asyncio.create_task(attempt(job_id))
            running.add(task)
            task.add_done_callback(running.discard)

    async def checks() -> dict[str, str]:
        return {}

    def end() -> None:
        for task in running:
            task.cancel()

    queue = JobQueue(store, dispatch, checks)
    with shutdown.at_limit(end):
        async with queue.relaying():
            yield queue
        if running:
            await asyncio.wait(running)
    for job_id in await store.due(float("inf")):
        log.error("job %s is lost: it had not ended when the server did", job_id)

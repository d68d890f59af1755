"""Runs jobs in the web process. They are not durable: a restart forgets every job, finished or not."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from app.jobs.job import Job
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.shutdown import Shutdown

log = logging.getLogger(__name__)
AT_ONCE = 4


class InProcess:
    limit = AT_ONCE

    def __init__(self, settings: JobSettings, store: Store, shutdown: Shutdown, wake: asyncio.Event) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self._settings = settings
        self._store = store
        self._shutdown = shutdown
        self._wake = wake

    async def waiting(self) -> int:
        return self.limit if self._shutdown.draining else len(self.running)

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.running.add(task := asyncio.create_task(self._attempt(job.id)))
            task.add_done_callback(self._ended)

    async def checks(self) -> dict[str, str]:
        return {}

    def end(self) -> None:
        for task in self.running:
            task.cancel()

    async def _attempt(self, job_id: str) -> None:
        with suppress(Exception):  # the runner has logged it and written it down
            await run(self._store, job_id, self._settings)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._wake.set()


@asynccontextmanager
async def open_backend(
    settings: JobSettings, store: Store, shutdown: Shutdown, wake: asyncio.Event
) -> AsyncIterator[InProcess]:
    """Sets `wake`, that of the relay, when there is space for another job."""
    backend = InProcess(settings, store, shutdown, wake)
    with shutdown.at_limit(backend.end):
        yield backend
        if backend.running:
            await asyncio.wait(backend.running)
    for job_id in await store.due(float("inf"), limit=1_000_000):
        log.error("job %s is lost: it had not ended when the server did", job_id)

"""Hands job ids to the broker, a message a dispatch. A worker is told an id; the record in Redis is the truth."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from app.jobs import presence
from app.jobs.broker_thread import BrokerThread
from app.jobs.definition import limits
from app.jobs.job import Job
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.shutdown import Shutdown

TIMEOUT_MARGIN_SECONDS = 30  # the runner ends a job at its time limit; past this, the worker stops one that resists


class BrokerBackend:
    limit = 1000

    def __init__(self, settings: JobSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._relay, self._look = BrokerThread(settings), BrokerThread(settings)  # neither waits for the other

    async def waiting(self) -> int:
        return await self._relay.ask(self._relay.sender.waiting)

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        messages = [(job.id, int(limits(job.task, self._settings).timeout) + TIMEOUT_MARGIN_SECONDS) for job in jobs]
        await self._relay.ask(partial(self._relay.sender.send, messages))

    async def checks(self) -> dict[str, str]:
        return await presence.checks(self._store, self._settings, lambda: self._look.ask(self._look.sender.waiting))

    async def close(self) -> None:
        await self._relay.close()
        await self._look.close()


@asynccontextmanager
async def open_backend(
    settings: JobSettings, store: Store, shutdown: Shutdown, wake: asyncio.Event
) -> AsyncIterator[BrokerBackend]:
    """Wakes nobody: what runs a job is another process."""
    backend = BrokerBackend(settings, store)
    yield backend
    await backend.close()

"""Hands job ids to the broker, a message a dispatch. A worker is told an id; the record in Redis is the truth."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from app.jobs import presence
from app.jobs.broker import Sender
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.jobs.task import limits
from app.shutdown import Shutdown

T = TypeVar("T")

TIMEOUT_MARGIN_SECONDS = 30  # the runner ends a job at its time limit; past this, the worker stops one that resists


class Backend:
    """The broker's client is synchronous: it works in threads of its own, one at a time for each of two connections, so
    that a broker that stalls takes no thread from the application, and handing over and looking do not wait for each
    other."""

    limit = 1000

    def __init__(self, settings: JobSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._sender, self._sending = Sender(settings), CapacityLimiter(1)
        self._looker, self._looking = Sender(settings), CapacityLimiter(1)

    async def waiting(self) -> int:
        return await run_sync(_insist, self._sender.waiting, limiter=self._sending)

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        messages = [(job.id, int(limits(job.task, self._settings).timeout) + TIMEOUT_MARGIN_SECONDS) for job in jobs]
        await run_sync(_insist, partial(self._sender.send, messages), limiter=self._sending)

    async def checks(self) -> dict[str, str]:
        return await presence.checks(self._store, self._settings, self._answers)

    async def _answers(self) -> None:
        await run_sync(_insist, self._looker.waiting, limiter=self._looking, abandon_on_cancel=True)

    def close(self) -> None:
        self._sender.close()
        self._looker.close()


def _insist(call: Callable[[], T]) -> T:
    """On a new connection, if need be: the one at hand may be from before a restart of the broker."""
    try:
        return call()
    except Exception:
        return call()


@asynccontextmanager
async def open(settings: JobSettings, shutdown: Shutdown) -> AsyncIterator[JobQueue]:  # noqa: A001
    async with Store.open(settings) as store:
        backend = Backend(settings, store)
        jobs = JobQueue(store, backend)
        async with jobs.relaying():
            yield jobs
        backend.close()

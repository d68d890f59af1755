"""Hands job ids to the broker, a message a dispatch. A worker is told an id; the record in Redis is the truth."""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync

from app.jobs import presence
from app.jobs.broker import Sender
from app.jobs.connection import ANSWER_SECONDS
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.jobs.task import limits
from app.shutdown import Shutdown

T = TypeVar("T")

TIMEOUT_MARGIN_SECONDS = 30  # the runner ends a job at its time limit; past this, the worker stops one that resists


class Line:
    """A connection to the broker, whose client is synchronous: in a thread of its own, so that a broker that stalls takes
    none from the application. Whoever is cancelled leaves the thread behind, and the next one does not join it."""

    def __init__(self, settings: JobSettings) -> None:
        self.sender = Sender(settings)
        self._limiter = CapacityLimiter(1)
        self._busy = threading.Lock()

    async def ask(self, call: Callable[[], T]) -> T:
        return await run_sync(self._ask, call, limiter=self._limiter, abandon_on_cancel=True)

    def _ask(self, call: Callable[[], T]) -> T:
        if not self._busy.acquire(blocking=False):
            raise TimeoutError("the broker has not answered the last call")
        try:
            return call()
        except Exception:
            return call()  # on a new connection: the one before may be from before a restart of the broker
        finally:
            self._busy.release()

    async def close(self) -> None:
        with move_on_after(ANSWER_SECONDS):
            await self.ask(self.sender.close)


class Backend:
    limit = 1000

    def __init__(self, settings: JobSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._relay, self._look = Line(settings), Line(settings)  # neither waits for the other

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
async def open(settings: JobSettings, shutdown: Shutdown) -> AsyncIterator[JobQueue]:  # noqa: A001
    async with Store.open(settings) as store:
        backend = Backend(settings, store)
        jobs = JobQueue(store, backend)
        async with jobs.relaying():
            yield jobs
        await backend.close()

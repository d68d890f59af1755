"""Jobs with what they stand on at hand; and a broker in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from app.admission import Admit
from app.jobs.backend import open_backend
from app.jobs.definition import JobContext, Task
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.relay import Backend, Relay
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.shutdown import Shutdown

LEASE_SECONDS = 15.0


class Order(BaseModel):
    what: str


async def nothing(context: JobContext, order: Order) -> None:
    """Never run here."""


T, U = Task("t", nothing, Order), Task("u", nothing, Order)


def dispatched_job(id: str, **fields: Any) -> Job:  # noqa: A002
    """As a message finds it."""
    return Job(
        **{"id": id, "task": "t", "fingerprint": "f", "request_id": "r", "created_at": 0, "due": 0, "dispatches": 1}
        | fields
    )


class Broker:
    """Takes as many ids as there is space for; is away, or loses what it is given, as often as is said."""

    def __init__(self, limit: int = 1000) -> None:
        self.ids: asyncio.Queue[str] = asyncio.Queue()
        self.limit = limit
        self.away = self.loses = 0

    async def waiting(self) -> int:
        if self.away:
            self.away -= 1
            raise ConnectionError("the broker is away")
        return self.ids.qsize()

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        if self.loses:
            self.loses -= 1
            raise ConnectionError("the broker went away")
        for job in jobs:
            self.ids.put_nowait(job.id)

    async def checks(self) -> dict[str, str]:
        return {}


class Jobs(JobQueue):
    """With its relay and all that it stands on at hand."""

    def __init__(
        self,
        store: Store,
        backend: Backend,
        clock: Callable[[], float] | None = None,
        lease_seconds: float = LEASE_SECONDS,
        wake: asyncio.Event | None = None,
        admit: Admit | None = None,
    ) -> None:
        wake = wake or asyncio.Event()

        if clock:

            async def told() -> float:
                return clock()

            vars(store)["now"] = told
        super().__init__(store, wake, admit)
        self.store = store
        self.backend = backend
        self.relay = Relay(store, backend, wake, lease_seconds)


@asynccontextmanager
async def opened(settings: JobSettings, shutdown: Shutdown | None = None) -> AsyncIterator[Jobs]:
    """What a web server has open. It is shut down without time to drain, if nothing else is said."""
    wake = asyncio.Event()
    async with (
        Store.open(settings) as store,
        open_backend(settings, store, shutdown or Shutdown(0), wake) as backend,
    ):
        jobs = Jobs(store, backend, lease_seconds=settings.job_lease_seconds, wake=wake)
        async with jobs.relay.running():
            yield jobs

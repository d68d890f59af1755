"""A broker in memory, and what tests of jobs ask of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from app.jobs.definition import JobContext, Task
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.relay import Relay
from app.jobs.store import Store

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
    """Takes as many ids as there is room for; is away, or loses what it is given, as often as is said."""

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


def queue_over(
    store: Store, broker: Broker, clock: Callable[[], float] = time.time, lease_seconds: float = LEASE_SECONDS
) -> JobQueue:
    return JobQueue(store, Relay(store, broker, lease_seconds, clock), clock)

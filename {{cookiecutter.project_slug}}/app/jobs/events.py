"""A job as a stream of events, for those who follow it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.errors import Unavailable
from app.jobs.job import Status
from app.jobs.store import Store
from app.streams.events import Done, Event

FOLLOW_SECONDS = 0.25  # as often as progress is written
DONE_REASONS: dict[Status, str] = {"succeeded": "end", "failed": "error", "cancelled": "cancelled"}


@dataclass
class JobStatus(Event):
    name = "status"
    state: str
    progress: dict[str, Any]


async def follow(store: Store, job_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
    """The job's events from the one behind the first `after`, as they happen, and `done` when it has ended."""
    while True:
        with suppress(Unavailable):  # the store may come back, and the stream is kept alive meanwhile
            job = await store.get(job_id)
            for event in await store.events(job_id, after):
                after += 1
                yield JobStatus(**event)
            if job.ended:
                yield Done(DONE_REASONS[job.status])
                return
        await asyncio.sleep(FOLLOW_SECONDS)


async def resume(store: Store, job_id: str, last_id: int) -> int | None:
    """Where a follower whose last event was `last_id` continues; None when that was the job's `done`."""
    job = await store.get(job_id)
    if last_id == 0 or await store.events(job_id, last_id - 1):
        return last_id
    return None if job.ended else 0

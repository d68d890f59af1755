"""A job as a stream of events, for those who follow it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.errors import Unavailable
from app.jobs.job import JobStatus
from app.jobs.store import Store
from app.streams.events import Done, Event

LOOK_AGAIN_SECONDS = 1.0  # after a look that the store did not answer
AT_ONCE = 100  # events that are read in one look, so that followers of a long history do not stall each other
DONE_REASONS: dict[JobStatus, str] = {"succeeded": "end", "failed": "error", "cancelled": "cancelled"}


@dataclass
class JobChanged(Event):
    name = "status"
    state: str
    progress: dict[str, Any]


async def follow(store: Store, job_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
    """The job's events as they happen, without the first `after`, and `done` when the job has ended."""
    with store.watch(job_id) as news:
        while True:
            news.clear()  # before the look, so that what happens during it leads to another look
            wait = None
            try:
                job, events = await store.news(job_id, after, AT_ONCE)
            except Unavailable:  # the store may come back, and the stream is kept alive meanwhile
                wait = LOOK_AGAIN_SECONDS
            else:
                for event in events:
                    after += 1
                    yield JobChanged(event["state"], event["progress"])  # a later version may write more
                if len(events) == AT_ONCE:
                    continue
                if job.ended:
                    yield Done(DONE_REASONS[job.status])
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await news.wait()


async def resume(store: Store, job_id: str, last_id: int) -> int | None:
    """The `after` with which `follow` continues behind the event `last_id`. It is None when that was the job's `done`,
    and 0 when the job has had no such event."""
    job, events = await store.news(job_id, max(0, last_id - 1), 1)
    if last_id == 0 or events:
        return last_id
    return None if job.ended else 0

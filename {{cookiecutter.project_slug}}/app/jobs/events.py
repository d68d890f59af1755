"""A job as a stream of events, for those who follow it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.errors import NotFound, Unavailable
from app.jobs.status import JobStatus
from app.jobs.store import Store
from app.logs import request_id
from app.streams.events import Done, Error, Event

LOOK_AGAIN_SECONDS = 1.0  # after a look that the store did not answer
AT_ONCE = 100  # events that are read in one look, so that followers of a long history do not stall each other
DONE_REASONS: dict[JobStatus, str] = {"succeeded": "end", "failed": "error", "cancelled": "cancelled"}


@dataclass
class JobChanged(Event):
    event_type = "status"
    state: str
    progress: dict[str, Any]


class JobLog:
    """A job's events: a `Log` (`app/streams/log.py`) for one reader. The last is a `done`, when the job has ended, or
    is lost with the store's data."""

    def __init__(self, store: Store, job_id: str, caller: str) -> None:
        self._store = store
        self._job_id = job_id
        self._caller = caller
        self._end: int | None = None  # the place of the `done`

    async def after(self, place: int, seconds: float) -> Sequence[Event] | None:
        if place == self._end:
            return None
        with self._store.watch(self._job_id) as news, suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (ready := await self._ready(place)):
                    await news.wait()
                    news.clear()
                return ready
        return []

    async def _ready(self, place: int) -> list[Event]:
        while True:
            try:
                job, events = await self._store.news(self._job_id, place, AT_ONCE)
                job.of(self._caller)
                break
            except Unavailable:  # the store may come back, and the stream is kept alive meanwhile
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            except NotFound:  # the store has lost it since
                self._end = place + 2
                return [Error("not_found", "There is no such job.", False, request_id.get()), Done("error")]
        ready: list[Event] = [JobChanged(event["state"], event["progress"]) for event in events]
        if job.ended and len(events) < AT_ONCE:
            ready.append(Done(DONE_REASONS[job.status]))
            self._end = place + len(ready)
        return ready


async def resume(store: Store, job_id: str, caller: str, last_id: int) -> int | None:
    """The place from which a follower goes on behind the event `last_id`. It is None when that was the job's `done`,
    and 0 when the job has had no such event."""
    job, events = await store.news(job_id, max(0, last_id - 1), 1)
    job.of(caller)
    if last_id == 0 or events:
        return last_id
    return None if job.ended else 0

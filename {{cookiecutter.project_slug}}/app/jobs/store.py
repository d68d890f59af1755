"""Job records in the memory of this process: a restart forgets them."""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from typing import Any, Self

from app.errors import NotFound
from app.jobs.job import Job, JobStatus
from app.jobs.settings import JobSettings
from app.jobs.watchers import Watchers

log = logging.getLogger(__name__)


@dataclass
class _Entry:
    job: Job
    payload: str
    changed_at: float  # when its status changed last
    result: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)


class Store:
    """Calls that take an id raise NotFound when there is no such job."""

    def __init__(self, retention_seconds: float) -> None:
        """A job is forgotten `retention_seconds` after its end, with all that belongs to it."""
        self.retention = retention_seconds
        self._entries: dict[str, _Entry] = {}
        self._ended: deque[tuple[float | None, str]] = deque()
        self._watchers = Watchers()
        self.watch = self._watchers.watch

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: JobSettings, processes: int = 1) -> AsyncIterator[Self]:
        """`processes` is how many the server runs."""
        if processes > 1:
            log.warning(
                "%d processes serve, and each knows only the jobs that it has accepted: for others it answers 404",
                processes,
            )
        yield cls(settings.job_retention_seconds)

    async def create(self, job: Job, payload: str) -> Job:
        """Adds the job, and gives it. If there is a job of that id already, gives that one and changes nothing."""
        self._forget()
        if job.id not in self._entries:
            self._entries[job.id] = _Entry(job, payload, time.time(), events=[job.event()])
        return self._entries[job.id].job

    async def get(self, job_id: str) -> Job:
        return self._entry(job_id).job

    async def result(self, job_id: str) -> str | None:
        return self._entry(job_id).result

    async def update(
        self, job_id: str, change: Callable[[Job], Job], result: str | None = None, seen: Job | None = None
    ) -> Job:
        """Applies `change` to the record atomically. When `change` raises, the record stays as it was.

        `seen` is the record as the caller wrote it last. It makes no difference here.
        """
        entry = self._entry(job_id)
        before, entry.job = entry.job, change(entry.job)
        if entry.job.status != before.status:
            entry.changed_at = time.time()
        if entry.job.event() != before.event():
            entry.events.append(entry.job.event())
            self._watchers.tell(job_id)
        if result is not None:
            entry.result = result
        if entry.job.ended:
            self._ended.append((entry.job.ended_at, job_id))
        return entry.job

    async def begin(self, job_id: str, change: Callable[[Job], Job]) -> tuple[Job, str]:
        """The same as `update`, and gives the job's payload as well."""
        entry = self._entry(job_id)
        return await self.update(job_id, change), entry.payload

    async def due(self, now: float, limit: int) -> list[str]:
        """The ids of jobs that are due at `now`, those first that have been due for longest."""
        due = [(job.due, job.id) for job in (e.job for e in self._entries.values()) if job.due is not None]
        return [job_id for at, job_id in nsmallest(limit, due) if at <= now]

    async def latest(self, status: JobStatus | None, limit: int) -> list[Job]:
        """The jobs whose status changed last, the latest first. With `status`, only those that have it."""
        self._forget()
        found = (entry for entry in self._entries.values() if status in (None, entry.job.status))
        return [entry.job for entry in nlargest(limit, found, key=lambda entry: entry.changed_at)]

    async def news(self, job_id: str, after: int, limit: int) -> tuple[Job, list[dict[str, Any]]]:
        """The record, and up to `limit` of the job's events, without the first `after`."""
        entry = self._entry(job_id)
        return entry.job, entry.events[after : after + limit]

    def _entry(self, job_id: str) -> _Entry:
        self._forget()
        if job_id not in self._entries:
            raise NotFound("there is no such job")
        return self._entries[job_id]

    def _forget(self) -> None:
        while self._ended and (self._ended[0][0] or 0) < time.time() - self.retention:
            ended_at, job_id = self._ended.popleft()
            if (entry := self._entries.get(job_id)) and entry.job.ended_at == ended_at:
                del self._entries[job_id]

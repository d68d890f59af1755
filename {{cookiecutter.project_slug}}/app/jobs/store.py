"""Job records in the memory of this process: a restart forgets them."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Self

from app.errors import Unavailable
from app.jobs.job import Job
from app.jobs.records import Entry, Live
from app.jobs.settings import JobSettings
from app.jobs.status import Backlog, JobStatus, NoSuchJob
from app.jobs.watchers import Watchers

log = logging.getLogger(__name__)
MAX_JOBS = 10_000
MAX_BYTES = 256 * 1024 * 1024  # of memory


class Store:
    """Calls that take an id raise NoSuchJob when there is none."""

    def __init__(self, retention_seconds: float) -> None:
        """A job is forgotten `retention_seconds` after its end, with all that belongs to it, or if space is needed."""
        self.retention = retention_seconds
        self._entries: dict[str, Entry] = {}  # those whose status changed last come last
        self._ended: dict[str, float] = {}  # and when: those that ended first come first
        self._live = Live()
        self._bytes = 0
        self._watchers = Watchers()
        self.watch = self._watchers.watch

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: JobSettings, processes: int = 1) -> AsyncIterator[Self]:
        """`processes` is how many the server runs."""
        if processes > 1:
            said = "%d processes serve, and each knows only the jobs that it has accepted: for others it answers 404"
            log.warning(said, processes)
        yield cls(settings.job_retention_seconds)

    async def now(self) -> float:
        """In seconds since the epoch, by the clock that all times of jobs come from."""
        return time.time()

    async def check(self) -> None:
        """Raises Unavailable if nothing can be written. Here it always can."""

    async def create(self, job: Job, payload: str) -> Job:
        """Adds the job, and gives it. If there is a job of that id already, gives that one and changes nothing.

        Raises Unavailable if there is no space: too many jobs have not ended.
        """
        self._forget()
        if job.id not in self._entries:
            entry = Entry(job, payload)
            self._make_space(1, entry.bytes)
            if len(self._entries) >= MAX_JOBS or self._bytes + entry.bytes > MAX_BYTES:
                raise Unavailable("too many jobs wait", limit="all jobs")
            self._entries[job.id] = entry
            self._bytes += entry.bytes
            self._live.note(job)
        return self._entries[job.id].job

    async def get(self, job_id: str) -> Job:
        return self._entry(job_id).job

    async def result(self, job_id: str) -> str | None:
        return self._entry(job_id).result or None

    async def update(
        self, job_id: str, change: Callable[[Job], Job], result: str | None = None, seen: Job | None = None
    ) -> Job:
        """Applies `change` to the record atomically. When `change` raises, the record stays as it was.

        `seen` is the record as the caller wrote it last. It makes no difference here.
        """
        entry = self._entry(job_id)
        before, job = entry.job, change(entry.job)
        entry.job, bytes_before = job, entry.bytes
        self._live.note(job, before)
        if job.event() != before.event():
            entry.add_event()
            self._watchers.tell(job_id)
        if result is not None:
            entry.add_result(result)
        if job.status in ("succeeded", "cancelled"):  # a failed one may be run again
            entry.drop_payload()
        if job.status != before.status:
            self._entries[job_id] = self._entries.pop(job_id)
            self._ended.pop(job_id, None)
            if job.ended:
                self._ended[job_id] = time.time()
        self._bytes += entry.bytes - bytes_before
        self._make_space()
        return job

    async def begin(self, job_id: str, change: Callable[[Job, float], Job]) -> tuple[Job, str]:
        """The same as `update`, and gives the job's payload as well. `change` is told what time it is."""
        entry, now = self._entry(job_id), await self.now()
        payload = entry.payload
        return await self.update(job_id, lambda job: change(job, now)), payload

    async def due(self, now: float, limit: int) -> list[str]:
        """The ids of jobs that are due at `now`, those first that have been due for longest."""
        return self._live.due(now, limit)

    async def backlog(self) -> Backlog:
        return self._live.backlog(await self.now())

    async def latest(self, status: JobStatus | None, limit: int, caller: str | None = None) -> list[Job]:
        """The jobs whose status changed last, the latest first: those of that status and caller, or of all."""
        self._forget()
        jobs = (entry.job for entry in reversed(self._entries.values()))
        its = (job for job in jobs if caller in (None, job.caller) and status in (None, job.status))
        return list(islice(its, limit))

    async def news(self, job_id: str, after: int, limit: int) -> tuple[Job, list[dict[str, Any]]]:
        """The record, and up to `limit` of the job's events, without the first `after`."""
        entry = self._entry(job_id)
        return entry.job, entry.events[after : after + limit]

    def _entry(self, job_id: str) -> Entry:
        self._forget()
        if job_id not in self._entries:
            raise NoSuchJob
        return self._entries[job_id]

    def _forget(self) -> None:
        """Those whose time is over."""
        while self._ended and next(iter(self._ended.values())) < time.time() - self.retention:
            self._forget_the_oldest()

    def _make_space(self, jobs: int = 0, size: int = 0) -> None:
        """For so many more."""
        while self._ended and (len(self._entries) + jobs > MAX_JOBS or self._bytes + size > MAX_BYTES):
            self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        """Of those that have ended."""
        del self._ended[job_id := next(iter(self._ended))]
        self._bytes -= self._entries.pop(job_id).bytes

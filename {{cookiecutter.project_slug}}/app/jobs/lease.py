"""The lease of a job: whoever holds it runs the job, and must renew it in time or lose it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import NoReturn, TypeVar
from uuid import uuid4

from app import telemetry
from app.errors import NotFound, Unavailable
from app.jobs.definition import JobContext, limits
from app.jobs.job import Job
from app.jobs.settings import JobSettings
from app.jobs.status import JobError, NotYours, Progress
from app.jobs.store import Store

T = TypeVar("T")

log = logging.getLogger(__name__)
RENEWALS = 5  # in the time of a lease; a cancelled job is stopped at the next of them
PROGRESS_SECONDS = 0.25  # between two writes of the progress, at least
STORE_RETRY_SECONDS = 1.0


class Lease:
    """Each method raises NotYours when the lease is lost: it ran out, or the job was cancelled or forgotten."""

    def __init__(self, store: Store, job: Job, holder: str, seconds: float, waited: float) -> None:
        self.job = job  # as this holder wrote it last
        self.waited = waited  # in seconds, from when the attempt ought to have begun
        self._store = store
        self._holder = holder
        self._seconds = seconds
        self._taken = monotonic()
        self._attempt = job.attempts

    def told(self, outcome: str) -> dict[str, object]:
        """The fields of a line of the log that says how the attempt has ended."""
        seconds = round(monotonic() - self._taken, 3)
        job = self.job
        return {"task": job.task, "job": job.id, "attempt": self._attempt, "seconds": seconds, "outcome": outcome}

    async def renew(self, context: JobContext) -> NoReturn:
        """Renews the lease again and again, and writes the job's progress when there is a new one."""
        began = renewed = monotonic()
        every = self._seconds / RENEWALS
        refused = False
        written = Progress()  # not the context's latest: the body may have made some before this begins
        while True:
            asleep = monotonic()
            # The longer a job takes, the more rarely its progress is written: the list of its events stays short.
            pause = min((asleep - began) / 1000, renewed + every - asleep)
            await asyncio.sleep(max(PROGRESS_SECONDS, pause))
            if (blocked := monotonic() - asleep) > 2 * every:
                log.warning("job %s has blocked the event loop for %.1f s: use asyncio.to_thread", self.job.id, blocked)
            latest = context.latest
            if latest == written and monotonic() - renewed < every:
                continue
            try:
                await self._write(partial(Job.renewed, holder=self._holder, lease=self._seconds, progress=latest))
            except Unavailable:
                if not refused:
                    log.warning("job %s: the store does not answer; the lease is not renewed for now", self.job.id)
                refused = True
                continue
            refused = False
            written, renewed = latest, monotonic()

    async def succeed(self, progress: Progress, result: str) -> None:
        await answered(lambda: self._write(partial(Job.succeed, holder=self._holder, progress=progress), result))

    async def fail(self, progress: Progress, error: JobError, retry_in: float | None) -> None:
        """`retry_in` is in seconds, or None when this was the last attempt."""
        failed = partial(Job.fail, holder=self._holder, progress=progress, error=error, retry_in=retry_in)
        await answered(lambda: self._write(partial(failed, attempted=telemetry.traceparent())))

    async def give_back(self, error: JobError, seconds: float) -> float:
        """The attempt does not count; the job has failed if it was given back for so many `seconds`. Says for how many
        it was."""
        returned = partial(Job.give_back, holder=self._holder, error=error, seconds=seconds)
        now = await answered(lambda: self._write(returned))
        return now - (self.job.unfit_since or now)

    async def _write(self, change: Callable[..., Job], result: str | None = None) -> float:
        """`change` is a move of the job that lacks only its time. That is given back."""
        try:
            now = await self._store.now()
            self.job = await self._store.update(self.job.id, partial(change, now=now), result, seen=self.job)
            return now
        except NotFound as error:
            raise NotYours(self.job.id) from error


async def take(store: Store, job_id: str, settings: JobSettings) -> tuple[Lease, str]:
    """Begins an attempt at the job, and gives the lease and the job's payload. The attempt counts from now on. If
    none was left, the job has ended instead.

    Raises NotFound, and NotYours when the job is not to be run now.
    """
    holder = uuid4().hex
    waited = 0.0

    def begin(job: Job, now: float) -> Job:
        nonlocal waited
        if job.waits_since is not None:  # else this is a repeat, and the store's answer was lost
            waited = max(0.0, now - job.waits_since)
        return job.begin(holder, now, settings.job_lease_seconds, limits(job.task, settings).max_attempts)

    job, payload = await answered(lambda: store.begin(job_id, begin))
    return Lease(store, job, holder, settings.job_lease_seconds, waited), payload


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Repeats the call until the store answers. What was done must not be lost or done again because the store was away
    at that moment."""
    waits = False
    while True:
        try:
            return await call()
        except Unavailable:
            if not waits:
                log.warning("the store does not answer; trying again until it does")
            waits = True
            await asyncio.sleep(STORE_RETRY_SECONDS)

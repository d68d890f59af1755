"""Relay: hands jobs that are due to the backend, once a second or when it is woken.

A message that a broker loses, repeats or reorders does no harm: all it says is "look at this job".
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from typing import Protocol

from app import telemetry
from app.errors import NotFound
from app.jobs.job import Job
from app.jobs.status import NotYours
from app.jobs.store import Store
from app.logs import caller, request_id

log = logging.getLogger(__name__)
RELAY_SECONDS = 1.0  # how late a retry or an orphan may be noticed
FEW = 50  # while fewer messages wait, a repeat costs little
RARELY = 5  # behind more of them, one in so many repeats is sent
BATCH = 100


class Backend(Protocol):
    """What carries jobs to where they run."""

    limit: int
    """About how many jobs may wait there. The rest wait in the store, where that costs nothing."""

    async def waiting(self) -> int:
        """How many wait there; it may not have counted yet what it was sent last. Raises when it is away."""

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        """Has somebody look at each of them."""

    async def checks(self) -> dict[str, str]:
        """Of each service that jobs need, whether it is `ok`, or why it is not. Never raises."""


class Relay:
    def __init__(
        self,
        store: Store,
        backend: Backend,
        wake: asyncio.Event,
        lease_seconds: float,
    ) -> None:
        """Looks once a second, and at once when `wake` is set: something is due, or there is space. A job that nobody
        has begun `lease_seconds` after its dispatch is dispatched again."""
        self._store = store
        self._backend = backend
        self._wake = wake
        self._lease = lease_seconds

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        relay = asyncio.create_task(self._run(), name="jobs relay")
        relay.add_done_callback(_ended)
        try:
            yield
        finally:
            relay.cancel()
            await asyncio.wait({relay})

    async def _run(self) -> None:
        waits = False
        while True:
            self._wake.clear()
            try:
                if await self.dispatch_due():
                    self._wake.set()  # there may be more than one look brings
            except Exception:
                if not waits:
                    log.exception("jobs wait: they can't be dispatched for now")
                waits = True
                await self._back()
                continue
            if waits:
                log.info("jobs can be dispatched again")
            waits = False
            with suppress(TimeoutError):
                async with asyncio.timeout(RELAY_SECONDS):
                    await self._wake.wait()

    async def _back(self) -> None:
        """Waits until the store takes what is written and the backend answers, and then until whoever holds a job has
        had time to renew its lease: an outage must not cost an attempt."""
        while True:
            await asyncio.sleep(RELAY_SECONDS)
            with suppress(Exception):
                await self._store.check()
                await self._backend.waiting()
                break
        await asyncio.sleep(self._lease / 3)

    async def dispatch_due(self) -> int:
        """Looks once, and says how many ids it has dealt with. The next look finds others: none of these is due now."""
        now = await self._store.now()
        due = await self._store.due(now, BATCH)
        if not due:
            return 0
        waiting = await self._backend.waiting()
        looked_at = due[: max(0, self._backend.limit - waiting)]
        claimed = []
        try:
            for job_id in looked_at:
                with suppress(NotYours, NotFound):  # another process was faster, or its time has passed
                    claimed.append(await self._claim(job_id, now))
        finally:  # what is claimed is sent, though the store or this process goes away: its repeat may be far away
            # Behind many messages a job's own is most likely still on its way, and a repeat would only make them more.
            sent = [job for job in claimed if waiting < FEW or job.dispatches % RARELY == 1]
            if sent:
                await self._backend.dispatch(sent)
        return len(looked_at)

    async def _claim(self, job_id: str, now: float) -> Job:
        taken = None  # the job, if somebody has let its lease run out

        def dispatched(job: Job) -> Job:
            nonlocal taken
            taken = job if job.status == "running" else None
            return job.dispatched(now, self._lease)

        job = await self._store.update(job_id, dispatched)
        if taken:
            copy_context().run(_tell, taken, now - (taken.since or now))
        return job


def _tell(job: Job, seconds: float) -> None:
    """That the lease of an attempt was taken away so many `seconds` after it began. In a context that becomes the
    job's."""
    request_id.set(job.request_id)
    caller.set(job.caller)
    telemetry.join_trace(job.traceparent)
    told = {"task": job.task, "job": job.id, "attempt": job.attempts, "seconds": round(seconds, 3), "outcome": "lost"}
    telemetry.lease_taken(told)


def _ended(relay: "asyncio.Task[None]") -> None:
    """It ends with its process. Should it end by itself, jobs are accepted and wait: that must not go unseen."""
    if not relay.cancelled():
        log.critical("the %s has ended, and jobs wait until a restart", relay.get_name(), exc_info=relay.exception())

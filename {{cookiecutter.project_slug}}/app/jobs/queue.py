"""JobQueue: what routes see of jobs.

Accepting a job only writes its record; a relay hands jobs that are due to the backend. So a request never waits for
a broker, and a message that a broker loses, repeats or reorders does no harm: all it says is "look at this job".
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from pydantic import ValidationError

from app.errors import Conflict, NotFound, Unavailable
from app.jobs.definition import P, Task
from app.jobs.job import Job, NotYours, Status
from app.jobs.store import Store
from app.logs import request_id

log = logging.getLogger(__name__)
DEADLINE_SECONDS = 2.0  # past it a request is refused, and can be tried again
RELAY_SECONDS = 1.0  # how late a retry or an orphan may be noticed
FEW = 50  # messages that wait: a repeat costs little then
RARELY = 5  # behind more of them, one in so many repeats is sent
BATCH = 100


class Backend(Protocol):
    """What carries jobs to where they run."""

    limit: int
    """About how many jobs it is given to wait there; beyond them jobs wait in the store, where a wait costs nothing."""

    async def waiting(self) -> int:
        """How many wait there; it may not have counted yet what it was sent last. Raises when it is away."""

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        """Has somebody look at each of them."""

    async def checks(self) -> dict[str, str]:
        """Of each service that jobs need, whether it is `ok`, or why it is not. Never raises."""


class JobQueue:
    def __init__(
        self, store: Store, backend: Backend, clock: Callable[[], float] = time.time, lease_seconds: float = 15.0
    ) -> None:
        self.store = store
        self.backend = backend
        self._clock = clock
        self._lease = lease_seconds
        self._wake = asyncio.Event()

    async def enqueue(
        self, task: Task[P, Any], payload: P, *, caller: str, key: str | None = None, due: datetime | None = None
    ) -> Job:
        """The same `key` of the same caller gives the same job, and runs it again when it had failed; with another
        payload it is a Conflict. `due` is when to run it at the earliest, with its time zone: now, if not given.

        Raises ValueError for a `due` without one, or a payload that JSON can't carry: a secret, say, or a NaN.
        Raises Conflict, and Unavailable when the store does not answer within DEADLINE_SECONDS.
        """
        if due is not None and due.tzinfo is None:
            raise ValueError("due: a datetime with a time zone is needed")
        text, now = _text(task, payload), self._clock()
        job = Job(
            id=_digest(caller, task.name, key)[:32] if key else uuid4().hex,
            task=task.name,
            # Without what the next version may add as a default: the same request is the same job to both.
            fingerprint=_digest(payload.model_dump(mode="json", exclude_defaults=True)),
            request_id=request_id.get(),
            caller=caller,
            created_at=now,
            due=max(now, due.timestamp()) if due else now,
        )
        async with _deadline():
            stored = await self.store.create(job, text)
            if stored.fingerprint != job.fingerprint:
                raise Conflict("this Idempotency-Key was used with another body")
            if stored.status == "failed":
                try:
                    stored = await self.store.update(job.id, lambda job: job.again(now))
                except Conflict:  # another request with this key was faster
                    stored = await self.store.get(job.id)
        self.wake()
        return stored

    async def get(self, job_id: str) -> Job:
        """Raises NotFound, and Unavailable when the store does not answer."""
        return await self.store.get(job_id)

    async def result(self, job_id: str) -> Any:
        """What the job returned, as JSON has it; None unless it succeeded."""
        text = await self.store.result(job_id)
        return None if text is None else json.loads(text)

    async def latest(self, status: Status | None, limit: int) -> list[Job]:
        """Those whose status changed last, of that status or of all."""
        return await self.store.latest(status, limit)

    async def cancel(self, job_id: str) -> Job:
        """A queued job never starts; a running one is stopped at its next lease renewal.

        Raises NotFound, Conflict when the job has ended, and Unavailable when the store does not answer in time.
        """
        async with _deadline():
            return await self.store.update(job_id, lambda job: job.cancel(self._clock()))

    async def retry(self, job_id: str) -> Job:
        """Starts a failed job over, with all its attempts.

        Raises NotFound, Conflict when the job has not failed, and Unavailable when the store does not answer in time.
        """
        async with _deadline():
            job = await self.store.update(job_id, lambda job: job.again(self._clock()))
        self.wake()
        return job

    def wake(self) -> None:
        """Has the relay look now: something is due, or there is room."""
        self._wake.set()

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        relay = asyncio.create_task(self._relay())
        try:
            yield
        finally:
            relay.cancel()
            await asyncio.wait({relay})

    async def _relay(self) -> None:
        while True:
            self._wake.clear()
            try:
                if await self.dispatch_due():
                    self.wake()  # there may be more than one look brings
            except Exception:
                log.exception("jobs wait: they can't be dispatched for now")
                await self._back()
                log.info("jobs can be dispatched again")
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(RELAY_SECONDS):
                    await self._wake.wait()

    async def _back(self) -> None:
        """Waits until store and backend answer, and then until whoever holds a job has had time to renew its lease:
        an outage must not cost an attempt."""
        while True:
            await asyncio.sleep(RELAY_SECONDS)
            with suppress(Exception):
                await self.store.due(self._clock(), 1)
                await self.backend.waiting()
                break
        await asyncio.sleep(self._lease / 3)

    async def dispatch_due(self) -> int:
        """One look of the relay: how many jobs it has dealt with."""
        due = await self.store.due(now := self._clock(), BATCH)
        if not due:
            return 0
        waiting = await self.backend.waiting()
        claimed = []
        try:
            for job_id in due[: max(0, self.backend.limit - waiting)]:
                with suppress(NotYours, NotFound):  # another process was faster, or its time has passed
                    job = await self.store.update(job_id, partial(Job.dispatched, now=now, pause=self._lease))
                    claimed.append(job)
        finally:  # what is claimed is sent, though the store or this process goes away: its repeat may be far away
            # Behind many messages a job's own is most likely still on its way, and a repeat would only make them more.
            sent = [job for job in claimed if waiting < FEW or job.dispatches % RARELY == 1]
            if sent:
                await self.backend.dispatch(sent)
        return len(claimed)


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Of a request, however many calls of the store it takes."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except TimeoutError as error:
        raise Unavailable("the job store does not answer") from error


def _text(task: Task[P, Any], payload: P) -> str:
    """What the worker will read is what was meant: else no attempt at the job could be right."""
    text = payload.model_dump_json(by_alias=True, round_trip=True)
    try:
        same = task.payload.model_validate_json(text) == payload
    except ValidationError:
        same = False
    if not same:
        raise ValueError(f"the payload of {task.name} is not the same any more once it has been JSON")
    return text


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""JobQueue: what a caller sees of jobs.

A job belongs to its caller. To everybody else there is no such job: whatever takes an id takes the caller with it, so
that a route can't forget to ask whose it is. A script that looks after everybody's jobs finds them in the store.

Accepting a job only writes its record. The relay hands it to the backend, so that a request never waits for a broker.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

from app import telemetry
from app.admission import Admit
from app.digest import digest
from app.errors import Conflict, NotFound, Unavailable
from app.jobs.definition import P, Task
from app.jobs.events import JobLog, resume
from app.jobs.job import Job
from app.jobs.result import from_text
from app.jobs.status import Backlog, JobStatus
from app.jobs.store import Store
from app.logs import request_id

DEADLINE_SECONDS = 2.0  # past it a request is refused, and can be tried again


class JobQueue:
    def __init__(self, store: Store, wake: asyncio.Event | None = None, admit: Admit | None = None) -> None:
        """Sets `wake` when a job may be due, so that this process's relay looks at once. Without it, as in a script,
        the relay of some web server finds the job within a second. Asks `admit` before a new job is accepted."""
        self._store = store
        self._wake = wake or asyncio.Event()
        self._admit = admit

    async def enqueue(
        self, task: Task[P, Any], payload: P, *, caller: str, key: str | None = None, due: datetime | None = None
    ) -> Job:
        """The same `key` of the same caller gives the same job, and runs it again when it had failed; with another
        payload it is a Conflict. A key counts until its job is forgotten. `due` is when to run it at the earliest, with
        its time zone: now, if not given.

        Raises ValueError for a `due` without a time zone, or a payload that JSON can't carry: a secret, say, or a NaN.
        Raises Conflict, TooMany if the caller may begin no more, and Unavailable if the store does not answer in time.
        """
        if due is not None and due.tzinfo is None:
            raise ValueError("due: a datetime with a time zone is needed")
        text = task.to_text(payload)
        async with _deadline():
            now = await self._store.now()
            job = Job(
                id=digest(caller, task.name, key)[:32] if key else uuid4().hex,
                task=task.name,
                # Without what the next version may add as a default: the same request is the same job to both.
                fingerprint=digest(payload.model_dump(mode="json", exclude_defaults=True)),
                request_id=request_id.get(),
                traceparent=telemetry.traceparent(),
                caller=caller,
                created_at=now,
                due=max(now, due.timestamp()) if due else now,
            )
            if self._admit and not (key and await self._will_do(job.id)):
                await self._admit(caller)
            stored = await self._store.create(job, text)
            if stored == job:
                telemetry.job_accepted(job.task, job.id)
            if stored.fingerprint != job.fingerprint:
                raise Conflict("this Idempotency-Key was used with another body")
            if stored.status == "failed":
                try:
                    stored = await self._store.update(job.id, lambda failed: failed.again(job.due or now))
                except Conflict:  # another request with this key was faster
                    stored = await self._store.get(job.id)
        self._wake.set()
        return stored

    async def get(self, job_id: str, *, caller: str) -> Job:
        """Raises NotFound, and Unavailable when the store does not answer."""
        return (await self._store.get(job_id)).of(caller)

    async def result(self, job: Job) -> Any:
        """What the job returned, as JSON has it; None unless it succeeded. Raises BadResult if it can't be read."""
        text = await self._store.result(job.id)
        return None if text is None else from_text(text)

    async def latest(self, status: JobStatus | None, limit: int, *, caller: str) -> list[Job]:
        """The caller's jobs whose status changed last, of that status or of all."""
        return await self._store.latest(status, limit, caller)

    async def cancel(self, job_id: str, *, caller: str) -> Job:
        """A queued job never starts; a running one is stopped at its next lease renewal.

        Raises NotFound, Conflict when the job has ended, and Unavailable when the store does not answer in time.
        """
        async with _deadline():
            now = await self._store.now()
            return await self._store.update(job_id, lambda job: job.of(caller).cancel(now))

    async def retry(self, job_id: str, *, caller: str) -> Job:
        """Starts a failed job over, with all its attempts.

        Raises NotFound, Conflict when the job has not failed, TooMany if the caller may begin no more for now, and
        Unavailable when the store does not answer in time.
        """
        async with _deadline():
            now = await self._store.now()
            if self._admit:
                (await self.get(job_id, caller=caller)).again(now)  # one that can't be run again does not count
                await self._admit(caller)
            job = await self._store.update(job_id, lambda job: job.of(caller).again(now))
        self._wake.set()
        return job

    async def backlog(self) -> Backlog:
        """Of all callers. Raises Unavailable when the store does not answer."""
        return await self._store.backlog()

    async def resume(self, job_id: str, last_id: int, *, caller: str) -> int | None:
        """Where a follower whose last event was `last_id` continues; None when that was the job's `done`.

        Raises NotFound, and Unavailable when the store does not answer.
        """
        return await resume(self._store, job_id, caller, last_id)

    def log(self, job_id: str, *, caller: str) -> JobLog:
        """The job's events as they happen, and `done` when it has ended."""
        return JobLog(self._store, job_id, caller)

    async def _will_do(self, job_id: str) -> bool:
        """Whether there is such a job that is not to be run again."""
        try:
            return (await self._store.get(job_id)).status != "failed"
        except NotFound:
            return False


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Of a request, however many calls of the store it takes."""
    deadline = asyncio.timeout(DEADLINE_SECONDS)
    try:
        async with deadline:
            yield
    except TimeoutError as error:
        if not deadline.expired():  # a limit of the caller's has raised it
            raise
        raise Unavailable("the job store does not answer") from error

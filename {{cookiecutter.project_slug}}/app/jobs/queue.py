"""JobQueue: what routes see of jobs.

Accepting a job only writes its record; a relay hands the ids of jobs that are due to the backend. So a request
never waits for a broker, and a message that a broker loses, repeats or reorders does no harm: all it says is
"look at this job".
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from app.errors import Conflict, NotFound
from app.jobs.job import Job, NotYours
from app.jobs.store import Store
from app.logging import request_id

log = logging.getLogger(__name__)
RELAY_SECONDS = 1.0  # how late a retry or an orphan may be noticed
REPEAT_SECONDS = 15.0  # a dispatched job that nobody has begun by then is dispatched again


class JobQueue:
    def __init__(
        self,
        store: Store,
        dispatch: Callable[[str], Awaitable[None]],
        checks: Callable[[], Awaitable[dict[str, str]]],
    ) -> None:
        """`dispatch` has somebody look at the job of an id. `checks` tells of each service that jobs need whether it
        is `ok`, or why it is not."""
        self.store = store
        self.checks = checks
        self._dispatch = dispatch
        self._wake = asyncio.Event()

    async def enqueue(self, task: str, payload: BaseModel, *, caller: str, key: str | None = None) -> Job:
        """The same `key` of the same caller gives the same job; with another payload it is a Conflict."""
        text = payload.model_dump_json()
        job = Job(
            id=_digest(caller, task, key)[:32] if key else uuid4().hex,
            task=task,
            fingerprint=_digest(text),
            request_id=request_id.get(),
            created_at=(now := time.time()),
            due=now,
        )
        stored = await self.store.create(job, text)
        if stored.fingerprint != job.fingerprint:
            raise Conflict("this Idempotency-Key was used with another body")
        self._wake.set()
        return stored

    async def get(self, job_id: str) -> Job:
        return await self.store.get(job_id)

    async def result(self, job_id: str) -> Any:
        """What the job returned, as JSON has it; None unless it succeeded."""
        text = await self.store.result(job_id)
        return None if text is None else json.loads(text)

    async def cancel(self, job_id: str) -> Job:
        """A queued job never starts; a running one is stopped at its next lease renewal."""
        return await self.store.update(job_id, lambda job: job.cancel(time.time()))

    async def retry(self, job_id: str) -> Job:
        job = await self.store.update(job_id, lambda job: job.again(time.time()))
        self._wake.set()
        return job

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        relay = asyncio.create_task(self._relay())
        try:
            yield
        finally:
            relay.cancel()
            await asyncio.wait({relay})

    async def _relay(self) -> None:
        failing = False
        while True:
            self._wake.clear()
            try:
                if await self._dispatch_due():
                    self._wake.set()  # there may be more than one look brings
                if failing:
                    log.info("jobs are dispatched again")
                failing = False
            except Exception:
                if not failing:  # once, not every second
                    log.exception("jobs wait: they can't be dispatched for now")
                failing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(RELAY_SECONDS):
                    await self._wake.wait()

    async def _dispatch_due(self) -> int:
        now, dispatched = time.time(), 0
        for job_id in await self.store.due(now):
            with suppress(NotYours, NotFound):  # another process was faster, or its time has passed
                await self.store.update(job_id, partial(Job.dispatched, now=now, pause=REPEAT_SECONDS))
                await self._dispatch(job_id)
                dispatched += 1
        return dispatched


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

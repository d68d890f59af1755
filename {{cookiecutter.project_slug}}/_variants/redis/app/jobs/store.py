"""Job records in Redis. Every key begins with the queue's name:

NAME:job:ID:record       the record, JSON
NAME:job:ID:payload      what the job was asked to do, JSON
NAME:job:ID:result       what it returned, JSON
NAME:job:ID:events       a list: an event's place in it is its id
NAME:jobs:due            a sorted set: which job somebody must look at, and when
NAME:jobs:waits          a sorted set: which jobs wait for an attempt, and since or until when
NAME:jobs:STATUS         a sorted set for each status: which jobs have it, and since when
NAME:jobs:of:WHO:STATUS  the same of each caller's jobs: WHO is a digest of the caller's name
NAME:jobs:news           a channel: the id of a job that has a new event
NAME:jobs:check          written by /ready, to see whether Redis takes it

The four keys of a job expire together, counted from its end. Those of a job that has not ended never expire. Indexes of
ended jobs expire with the last of them; a caller's of the others, when none of them has been due for 30 days.
Times are those of Redis's own clock. Fields that this version does not know are ignored and kept, so that two versions
can run side by side.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis

from app.errors import NotFound, Unavailable
from app.jobs.indexes import Indexes
from app.jobs.job import Job
from app.jobs.news import News
from app.jobs.records import Records, Unreadable, load
from app.jobs.settings import JobSettings
from app.jobs.status import NoSuchJob, NotYours
from app.redis_client import connect


class Store:
    """Calls raise Unavailable when Redis does not answer in time. Those that take an id raise NoSuchJob when there is
    none, but for `result`."""

    def __init__(self, client: Redis, settings: JobSettings) -> None:
        self.client = client
        self.settings = settings
        self.retention = settings.job_retention_seconds
        self.records = Records(client, settings.queue_name)
        self._indexes = Indexes(client, self.records)
        self._news = News(client, self.records.index("news"))
        self.watch = self._news.watch
        self.now = self.records.now
        self.check = self.records.check
        self.due = self._indexes.due
        self.latest = self._indexes.latest
        self.backlog = self._indexes.backlog

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: JobSettings, processes: int = 1) -> AsyncIterator["Store"]:
        """However many `processes` there are, they share it."""
        async with connect(settings) as client:
            store = cls(client, settings)
            async with store._news:
                yield store

    async def create(self, job: Job, payload: str) -> Job:
        """Adds the job, and gives it. If there is a job of that id already, gives that one and changes nothing."""
        try:
            created, _ = await self.records.write(
                job.id, None, lambda found: found or job, retention=self.retention, payload=payload
            )
        except Unreadable as error:
            raise Unavailable("a later version of this service has the job of this key") from error
        return created

    async def get(self, job_id: str) -> Job:
        return _found(load(await self.records.read(job_id)))

    async def result(self, job_id: str) -> str | None:
        async with self.records.answering():
            return cast(str | None, await self.client.get(self.records.key(job_id, "result")))

    async def update(
        self, job_id: str, change: Callable[[Job], Job], result: str | None = None, seen: Job | None = None
    ) -> Job:
        """Applies `change` to the record atomically. When `change` raises, the record stays as it was.

        `seen` is the record as the caller wrote it last. It saves reading the record, if nobody has changed it since.
        """
        raw = seen.model_dump_json() if seen else await self._read(job_id)
        try:
            job, _ = await self._write(job_id, raw, change, result=result)
        except NotYours:
            if raw is not None and not seen:
                await self._indexes.align(job_id, raw)
            raise
        return job

    async def begin(self, job_id: str, change: Callable[[Job, float], Job]) -> tuple[Job, str]:
        """The same as `update`, and gives the job's payload as well. `change` is told what time it is."""
        raw = await self._read(job_id)
        now = await self.now()  # heard with the record
        job, payload = await self._write(job_id, raw, lambda job: change(job, now), gives_payload=True)
        if payload is None:
            raise NoSuchJob
        return job, payload

    async def news(self, job_id: str, after: int, limit: int) -> tuple[Job, list[dict[str, Any]]]:
        """The record, and up to `limit` of the job's events, without the first `after`."""
        async with self.records.answering(), self.client.pipeline() as pipe:
            pipe.get(self.records.key(job_id, "record"))
            pipe.lrange(self.records.key(job_id, "events"), after, after + limit - 1)
            raw, events = await pipe.execute()
        return _found(load(raw)), [json.loads(event) for event in events]

    async def _read(self, job_id: str) -> str | None:
        try:
            return await self.records.read(job_id)
        except Unreadable:
            await self._indexes.set_aside(job_id)
            raise

    async def _write(
        self,
        job_id: str,
        raw: str | None,
        change: Callable[[Job], Job],
        result: str | None = None,
        gives_payload: bool = False,
    ) -> tuple[Job, str | None]:
        def changed(found: Job | None) -> Job:
            return change(_found(found))

        try:
            return await self.records.write(
                job_id, raw, changed, retention=self.retention, result=result, gives_payload=gives_payload
            )
        except Unreadable:
            await self._indexes.set_aside(job_id)
            raise
        except NotFound:
            await self._indexes.forget(job_id)
            raise


def _found(job: Job | None) -> Job:
    if job is None:
        raise NoSuchJob
    return job

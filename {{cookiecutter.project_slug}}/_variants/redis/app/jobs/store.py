"""Job records in Redis. Every key begins with the queue's name:

NAME:job:ID:record     the record, JSON
NAME:job:ID:payload    what the job was asked to do, JSON
NAME:job:ID:result     what it returned, JSON
NAME:job:ID:events     a list: an event's place in it is its id
NAME:jobs:due          a sorted set: which job somebody must look at, and when
NAME:jobs:STATUS       a sorted set for each status: which jobs have it, and since when
NAME:jobs:news         a channel: the id of a job that has a new event
NAME:jobs:check        written by /ready, to see whether Redis takes it

The four keys of a job expire together, counted from its end. Those of a job that has not ended never expire.
Times are those of Redis's own clock. Fields that this version does not know are ignored and kept, so that two versions
can run side by side.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from heapq import nlargest
from typing import Any, cast, get_args

from redis.asyncio import Redis

from app.errors import NotFound, Unavailable
from app.jobs.job import Job, JobStatus, NotYours
from app.jobs.news import News
from app.jobs.records import Records, Unreadable, load
from app.jobs.settings import JobSettings
from app.redis_client import connect

log = logging.getLogger(__name__)
ASIDE_SECONDS = 60.0


class Store:
    """Calls raise Unavailable when Redis does not answer in time. Those that take an id raise NotFound when there is no
    such job, but for `result`."""

    def __init__(self, client: Redis, settings: JobSettings) -> None:
        self.client = client
        self.settings = settings
        self.retention = settings.job_retention_seconds
        self.records = Records(client, settings.queue_name)
        self._news = News(client, self.records.index("news"))
        self.watch = self._news.watch
        self.now = self.records.now
        self.check = self.records.check

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
                await self.records.align(job_id, raw)
            raise
        return job

    async def begin(self, job_id: str, change: Callable[[Job, float], Job]) -> tuple[Job, str]:
        """The same as `update`, and gives the job's payload as well. `change` is told what time it is."""
        raw = await self._read(job_id)
        now = await self.now()  # heard with the record
        job, payload = await self._write(job_id, raw, lambda job: change(job, now), gives_payload=True)
        if payload is None:
            raise NotFound("there is no such job")
        return job, payload

    async def due(self, now: float, limit: int) -> list[str]:
        """The ids of jobs that are due at `now`, those first that have been due for longest."""
        async with self.records.answering():
            due = await self.client.zrange(self.records.due_key, "-inf", now, byscore=True, offset=0, num=limit)
        return cast(list[str], due)

    async def latest(self, status: JobStatus | None, limit: int) -> list[Job]:
        """The jobs whose status changed last, the latest first. With `status`, only those that have it."""
        async with self.records.answering():
            async with self.client.pipeline(transaction=False) as pipe:
                for each in [status] if status else get_args(JobStatus):
                    pipe.zrange(self.records.index(each), 0, limit - 1, desc=True, withscores=True)
                found = [pair for pairs in await pipe.execute() for pair in pairs]
            ids = [job_id for job_id, _ in nlargest(limit, found, key=lambda pair: pair[1])]
            records = await self.client.mget([self.records.key(job_id, "record") for job_id in ids]) if ids else []
        jobs = []
        for raw in cast(list[str | None], records):
            with suppress(Unreadable):
                jobs.append(load(raw))
        # Between the two looks a job may have changed its status, or its record may have expired.
        return [job for job in jobs if job and status in (None, job.status)]

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
            await self._set_aside(job_id)
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
            await self._set_aside(job_id)
            raise
        except NotFound:
            await self.records.forget(job_id)
            raise

    async def _set_aside(self, job_id: str) -> None:
        log.warning("job %s is set aside for %g s: this version can't read its record", job_id, ASIDE_SECONDS)
        await self.records.set_aside(job_id, ASIDE_SECONDS)


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound("there is no such job")
    return job

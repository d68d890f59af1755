"""The indexes of jobs in Redis, which are sorted sets: when somebody must look at which job, and which jobs have which
status, of all and of each caller."""

import logging
from contextlib import suppress
from typing import cast, get_args

from redis.asyncio import Redis

from app.jobs.job import Job
from app.jobs.record_scripts import ALIGN, BACKLOG, FORGET
from app.jobs.records import Records, Unreadable, load
from app.jobs.status import Backlog, JobStatus

log = logging.getLogger(__name__)
ASIDE_SECONDS = 60.0
LIVE = "queued", "running", "retrying"


class Indexes:
    def __init__(self, client: Redis, records: Records) -> None:
        self._client = client
        self._records = records
        self._forget = client.register_script(FORGET)
        self._align = client.register_script(ALIGN)
        self._backlog = client.register_script(BACKLOG)

    async def due(self, now: float, limit: int) -> list[str]:
        """The ids of jobs that are due at `now`, those first that have been due for longest."""
        async with self._records.answering():
            due = await self._client.zrange(self._records.due_key, "-inf", now, byscore=True, offset=0, num=limit)
        return cast(list[str], due)

    async def backlog(self) -> Backlog:
        now = await self._records.now()
        keys = [*map(self._records.index, LIVE), self._records.waits_key]
        async with self._records.answering():
            queued, running, retrying, *since = await self._backlog(keys)
        return Backlog(queued, running, retrying, max(0.0, now - float(since[0])) if since else 0.0)

    async def latest(self, status: JobStatus | None, limit: int, caller: str | None = None) -> list[Job]:
        """The jobs whose status changed last, the latest first: those of that status and caller, or of all."""
        async with self._records.answering():
            async with self._client.pipeline(transaction=False) as pipe:
                for each in [status] if status else get_args(JobStatus):
                    pipe.zrange(self._records.index(each, caller), 0, limit - 1, desc=True, withscores=True)
                found = [pair for pairs in await pipe.execute() for pair in pairs]
            found.sort(key=lambda pair: pair[1], reverse=True)
            # A version without the indexes of callers may leave a job in two of them.
            ids = list(dict.fromkeys(job_id for job_id, _ in found))[:limit]
            records = await self._client.mget([self._records.key(job_id, "record") for job_id in ids]) if ids else []
        jobs = []
        for raw in cast(list[str | None], records):
            with suppress(Unreadable):
                jobs.append(load(raw))
        # Between the two looks a job may have changed its status, or its record may have expired.
        return [job for job in jobs if job and status in (None, job.status)]

    async def set_aside(self, job_id: str) -> None:
        """Nobody looks at the job for a while: it can't be run, and must not hold up others."""
        log.warning("job %s is set aside for %g s: this version can't read its record", job_id, ASIDE_SECONDS)
        due = await self._records.now() + ASIDE_SECONDS
        async with self._records.answering():
            await self._client.zadd(self._records.due_key, {job_id: due}, xx=True)

    async def forget(self, job_id: str) -> None:
        """Nobody looks at the job any more, nor counts it, if it has no record."""
        keys = [self._records.key(job_id, "record"), self._records.due_key, self._records.waits_key]
        async with self._records.answering():
            await self._forget([*keys, *map(self._records.index, LIVE)], [job_id])

    async def align(self, job_id: str, raw: str) -> None:
        """The job is due when its record says so, unless somebody has changed that since."""
        job = cast(Job, load(raw))
        due = [] if job.due is None else [str(job.due)]
        async with self._records.answering():
            await self._align([self._records.key(job_id, "record"), self._records.due_key], [raw, job_id, *due])

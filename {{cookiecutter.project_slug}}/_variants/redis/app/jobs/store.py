"""Job records in Redis. Every key begins with the queue's name:

NAME:job:ID            the record, JSON
NAME:job:ID:payload    what the job was asked to do, JSON
NAME:job:ID:result     what it returned, JSON
NAME:job:ID:events     a list: an event's place in it is its id
NAME:jobs:due          a sorted set: which job somebody must look at, and when

The four keys of a job expire together, counted from its end; one that has not ended never expires.
Fields that this version does not know are ignored, so that two versions can run side by side.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.errors import NotFound, Unavailable
from app.jobs.job import Job
from app.jobs.settings import JobSettings

ANSWER_SECONDS = 2.0  # past it a request is refused: the caller can try again, a waiting one holds a connection
CONNECTIONS = 10
BATCH = 100  # due jobs at a time


class Store:
    def __init__(self, client: Redis, settings: JobSettings) -> None:
        self.client = client
        self.prefix = settings.queue_name
        self.due_key = f"{self.prefix}:jobs:due"
        self.retention = settings.job_retention_seconds

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: JobSettings) -> AsyncIterator["Store"]:
        pool = BlockingConnectionPool.from_url(
            str(settings.redis_url),
            decode_responses=True,
            max_connections=CONNECTIONS,  # the default pool raises when it is exhausted, this one waits
            timeout=ANSWER_SECONDS,
            # `_answering` keeps the time. With a timeout of its own the client sends through `asyncio.wait_for`, which
            # on Python 3.11 can swallow a cancellation (python/cpython#86296): the relay then outlives the shutdown.
            socket_timeout=None,
            # Once: a connection from before a restart of Redis is found dead on use.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        async with Redis.from_pool(pool) as client:
            yield cls(client, settings)

    async def create(self, job: Job, payload: str) -> Job:
        """Returns the job of that id that is there already, if there is one."""
        return await self._transact(job.id, lambda found: found or job, payload=payload)

    async def get(self, job_id: str) -> Job:
        async with _answering():
            return _found(job_id, _load(await self.client.get(self._key(job_id))))

    async def payload(self, job_id: str) -> str | bytes:
        async with _answering():
            payload = await self.client.get(self._key(job_id, "payload"))
        if payload is None:
            raise NotFound(f"no job {job_id}")
        return payload

    async def result(self, job_id: str) -> str | bytes | None:
        async with _answering():
            return await self.client.get(self._key(job_id, "result"))

    async def update(self, job_id: str, change: Callable[[Job], Job], result: str | None = None) -> Job:
        """Applies `change` to the record atomically; when it raises, the record stays as it was."""
        return await self._transact(job_id, lambda found: change(_found(job_id, found)), result=result)

    async def due(self, now: float) -> list[str]:
        """The ids of jobs that somebody must look at by `now`, the first of them first."""
        async with _answering():
            due = await self.client.zrange(self.due_key, "-inf", now, byscore=True, offset=0, num=BATCH)
        return cast(list[str], due)

    async def events(self, job_id: str, after: int) -> list[dict[str, Any]]:
        """What has happened to the job, from its first event on; the first `after` of them left out."""
        async with _answering():
            return [json.loads(event) for event in await self.client.lrange(self._key(job_id, "events"), after, -1)]

    def _key(self, job_id: str, part: str = "") -> str:
        return f"{self.prefix}:job:{job_id}:{part}".rstrip(":")

    async def _transact(
        self,
        job_id: str,
        change: Callable[[Job | None], Job],
        payload: str | None = None,
        result: str | None = None,
    ) -> Job:
        """Optimistic locking: runs again from the start when the record was changed in between."""
        record = self._key(job_id)

        async def write(pipe: Pipeline) -> Job:
            before = _load(await pipe.get(record))
            after = change(before)
            pipe.multi()  # type: ignore[no-untyped-call]
            if after == before:
                return after
            pipe.set(record, after.model_dump_json())
            if before is None and payload is not None:
                pipe.set(self._key(job_id, "payload"), payload)
            if result is not None:
                pipe.set(self._key(job_id, "result"), result)
            if before is None or before.event() != after.event():
                pipe.rpush(self._key(job_id, "events"), json.dumps(after.event()))
            if after.due is None:
                pipe.zrem(self.due_key, job_id)
            else:
                pipe.zadd(self.due_key, {job_id: after.due})
            for part in ("", "payload", "result", "events"):
                if after.ended:
                    pipe.expire(self._key(job_id, part), self.retention)
                elif before is not None and before.ended:
                    pipe.persist(self._key(job_id, part))
            return after

        async with _answering():
            job: Job = await self.client.transaction(write, record, value_from_callable=True)
            return job


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise Unavailable("the job store does not answer") from error


def _load(raw: str | bytes | None) -> Job | None:
    return None if raw is None else Job.model_validate_json(raw)


def _found(job_id: str, job: Job | None) -> Job:
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job

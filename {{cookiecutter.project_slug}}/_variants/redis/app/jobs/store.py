"""Job records in Redis. Every key begins with the queue's name:

NAME:job:ID:record     the record, JSON
NAME:job:ID:payload    what the job was asked to do, JSON
NAME:job:ID:result     what it returned, JSON
NAME:job:ID:events     a list: an event's place in it is its id
NAME:jobs:due          a sorted set: which job somebody must look at, and when
NAME:jobs:STATUS       a sorted set for each status: which jobs have it, and since when
NAME:jobs:news         a channel: the id of a job that has a new event

The four keys of a job expire together, counted from its end; one that has not ended never expires.
Fields that this version does not know are ignored and kept, so that two versions can run side by side.
"""

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from heapq import nlargest
from typing import Any, cast, get_args

from pydantic import ValidationError
from redis.asyncio import Redis

from app.errors import NotFound, Unavailable
from app.jobs.connection import answering, connect
from app.jobs.job import Job, JobStatus
from app.jobs.news import News
from app.jobs.settings import JobSettings

log = logging.getLogger(__name__)
ASIDE_SECONDS = 60.0
PARTS = ("record", "payload", "result", "events")

# One command, not WATCH and MULTI: those leave a connection to be tidied up when Redis stalls in between, and
# redis-py waits for that without a limit.
COMPARE_AND_SET = """
local record, payload, result, events, due, was, is = unpack(KEYS)
local before, after, new_payload, new_result, event, due_at, expires_in, id, now, channel = unpack(ARGV)
if (redis.call('GET', record) or '') ~= before then return 0 end
redis.call('SET', record, after)
if new_payload ~= '' then redis.call('SET', payload, new_payload) end
if new_result ~= '' then redis.call('SET', result, new_result) end
if event ~= '' then
    redis.call('RPUSH', events, event)
    redis.call('PUBLISH', channel, id)
end
if due_at == '' then redis.call('ZREM', due, id) else redis.call('ZADD', due, due_at, id) end
if before == '' or was ~= is then
    redis.call('ZREM', was, id)
    redis.call('ZADD', is, now, id)
end
for _, key in ipairs({record, payload, result, events}) do
    if expires_in == '' then redis.call('PERSIST', key) else redis.call('EXPIRE', key, expires_in) end
end
if expires_in ~= '' then
    redis.call('ZREMRANGEBYSCORE', is, '-inf', now - expires_in)
    redis.call('EXPIRE', is, expires_in)
end
return 1
"""

# Not a plain ZREM: the job may have been accepted a moment ago.
FORGET = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end"


class Unreadable(NotFound):
    """Written by a version that knows more than this one: left for that one, and in nobody's way."""


class Store:
    def __init__(self, client: Redis, settings: JobSettings) -> None:
        self.client = client
        self.settings = settings
        self.prefix = settings.queue_name
        self.due_key = self._index("due")
        self.retention = settings.job_retention_seconds
        self._compare_and_set = client.register_script(COMPARE_AND_SET)
        self._forget = client.register_script(FORGET)
        self._news = News(client, self._index("news"))
        self.watch = self._news.watch

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: JobSettings) -> AsyncIterator["Store"]:
        async with connect(settings) as client:
            store = cls(client, settings)
            async with store._news:
                yield store

    async def create(self, job: Job, payload: str) -> Job:
        """Returns the job of that id that is there already, if there is one."""
        try:
            return await self._write(job.id, None, lambda found: found or job, payload=payload)
        except Unreadable as error:
            raise Unavailable("a later version of this service has the job of this key") from error

    async def get(self, job_id: str) -> Job:
        return _found(self._load(await self._read(job_id)))

    async def payload(self, job_id: str) -> str | bytes:
        async with answering():
            payload = await self.client.get(self._key(job_id, "payload"))
        if payload is None:
            raise NotFound("there is no such job")
        return payload

    async def result(self, job_id: str) -> str | bytes | None:
        async with answering():
            return await self.client.get(self._key(job_id, "result"))

    async def update(
        self, job_id: str, change: Callable[[Job], Job], result: str | None = None, seen: Job | None = None
    ) -> Job:
        """Applies `change` to the record atomically; when it raises, the record stays as it was. `seen` is the
        record as the caller last wrote it: if nobody has changed it since, it need not be read again."""
        try:
            raw = seen.model_dump_json() if seen else await self._read(job_id)
            return await self._write(job_id, raw, lambda found: change(_found(found)), result=result or "")
        except Unreadable:
            log.warning("job %s is set aside for %g s: this version can't read its record", job_id, ASIDE_SECONDS)
            async with answering():
                await self.client.zadd(self.due_key, {job_id: time.time() + ASIDE_SECONDS}, xx=True)
            raise
        except NotFound:
            async with answering():
                await self._forget([self._key(job_id, "record"), self.due_key], [job_id])
            raise

    async def due(self, now: float, limit: int) -> list[str]:
        """The ids of jobs that somebody must look at by `now`, those that have waited longest first."""
        async with answering():
            due = await self.client.zrange(self.due_key, "-inf", now, byscore=True, offset=0, num=limit)
        return cast(list[str], due)

    async def latest(self, status: JobStatus | None, limit: int) -> list[Job]:
        """Those whose status changed last, of that status or of all."""
        async with answering():
            async with self.client.pipeline(transaction=False) as pipe:
                for each in [status] if status else get_args(JobStatus):
                    pipe.zrange(self._index(each), 0, limit - 1, desc=True, withscores=True)
                found = [pair for pairs in await pipe.execute() for pair in pairs]
            ids = [job_id for job_id, _ in nlargest(limit, found, key=lambda pair: pair[1])]
            records = await self.client.mget([self._key(job_id, "record") for job_id in ids]) if ids else []
        jobs = []
        for raw in records:
            with suppress(Unreadable):
                jobs.append(self._load(raw))
        # A record may have changed meanwhile, or be forgotten before its place in the index is.
        return [job for job in jobs if job and status in (None, job.status)]

    async def news(self, job_id: str, after: int, limit: int) -> tuple[Job, list[dict[str, Any]]]:
        """The record, and the next events behind the first `after` that the job has had."""
        async with answering(), self.client.pipeline() as pipe:
            pipe.get(self._key(job_id, "record"))
            pipe.lrange(self._key(job_id, "events"), after, after + limit - 1)
            raw, events = await pipe.execute()
        return _found(self._load(raw)), [json.loads(event) for event in events]

    async def _read(self, job_id: str) -> str | bytes | None:
        async with answering():
            return await self.client.get(self._key(job_id, "record"))

    def _load(self, raw: str | bytes | None) -> Job | None:
        """None when there is no record."""
        try:
            return None if raw is None else Job.model_validate_json(raw)
        except ValidationError as error:
            raise Unreadable("there is no such job that this version can read") from error

    async def _write(
        self,
        job_id: str,
        raw: str | bytes | None,
        change: Callable[[Job | None], Job],
        payload: str = "",
        result: str = "",
    ) -> Job:
        """Optimistic locking: looks again when the record is not `raw` any more."""
        keys = [*(self._key(job_id, part) for part in PARTS), self.due_key]
        while True:
            before = self._load(raw)
            after = change(before)
            if after == before:
                return after
            event = after.event() if before is None or before.event() != after.event() else None
            values = [
                "" if raw is None else raw,
                after.model_dump_json(),
                payload if before is None else "",
                result,
                "" if event is None else json.dumps(event),
                "" if after.due is None else after.due,
                self.retention if after.ended else "",
                job_id,
                time.time(),
                self._index("news"),
            ]
            indexes = [self._index((before or after).status), self._index(after.status)]
            async with answering():
                if await self._compare_and_set([*keys, *indexes], values):
                    return after
            raw = await self._read(job_id)

    def _index(self, name: str) -> str:
        return f"{self.prefix}:jobs:{name}"

    def _key(self, job_id: str, part: str) -> str:
        return f"{self.prefix}:job:{job_id}:{part}"


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound("there is no such job")
    return job

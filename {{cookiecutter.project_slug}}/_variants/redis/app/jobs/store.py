"""Job records in Redis. Every key begins with the queue's name:

NAME:job:ID            the record, JSON
NAME:job:ID:payload    what the job was asked to do, JSON
NAME:job:ID:result     what it returned, JSON
NAME:job:ID:events     a list: an event's place in it is its id
NAME:jobs:due          a sorted set: which job somebody must look at, and when

The four keys of a job expire together, counted from its end; one that has not ended never expires.
Fields that this version does not know are ignored, so that two versions can run side by side.
"""

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from pydantic import ValidationError
from redis.asyncio import Redis

from app.errors import NotFound
from app.jobs.connection import answering, connect
from app.jobs.job import Job
from app.jobs.settings import JobSettings

log = logging.getLogger(__name__)
BATCH = 100  # due jobs at a time
ASIDE_SECONDS = 60.0
PARTS = ("", "payload", "result", "events")

# One command, not WATCH and MULTI: those leave a connection to be tidied up when Redis stalls in between, and
# redis-py waits for that without a limit.
COMPARE_AND_SET = """
local record, payload, result, events, due = unpack(KEYS)
local before, after, new_payload, new_result, event, due_at, expires_in, id = unpack(ARGV)
if (redis.call('GET', record) or '') ~= before then return 0 end
redis.call('SET', record, after)
if new_payload ~= '' then redis.call('SET', payload, new_payload) end
if new_result ~= '' then redis.call('SET', result, new_result) end
if event ~= '' then redis.call('RPUSH', events, event) end
if due_at == '' then redis.call('ZREM', due, id) else redis.call('ZADD', due, due_at, id) end
for _, key in ipairs({record, payload, result, events}) do
    if expires_in == '' then redis.call('PERSIST', key) else redis.call('EXPIRE', key, expires_in) end
end
return 1
"""


class Unreadable(NotFound):
    """Written by a version that knows more than this one: left for that one, and in nobody's way."""


class Store:
    def __init__(self, client: Redis, settings: JobSettings) -> None:
        self.client = client
        self.prefix = settings.queue_name
        self.due_key = f"{self.prefix}:jobs:due"
        self.retention = settings.job_retention_seconds
        self._compare_and_set = client.register_script(COMPARE_AND_SET)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: JobSettings) -> AsyncIterator["Store"]:
        async with connect(settings) as client:
            yield cls(client, settings)

    async def create(self, job: Job, payload: str) -> Job:
        """Returns the job of that id that is there already, if there is one."""
        return await self._write(job.id, lambda found: found or job, payload=payload)

    async def get(self, job_id: str) -> Job:
        async with answering():
            raw = await self.client.get(self._key(job_id, ""))
        return _found(self._load(job_id, raw))

    async def payload(self, job_id: str) -> str | bytes:
        async with answering():
            payload = await self.client.get(self._key(job_id, "payload"))
        if payload is None:
            raise NotFound("there is no such job")
        return payload

    async def result(self, job_id: str) -> str | bytes | None:
        async with answering():
            return await self.client.get(self._key(job_id, "result"))

    async def update(self, job_id: str, change: Callable[[Job], Job], result: str | None = None) -> Job:
        """Applies `change` to the record atomically; when it raises, the record stays as it was."""
        try:
            return await self._write(job_id, lambda found: change(_found(found)), result=result or "")
        except Unreadable:
            log.warning("job %s is set aside for %g s: this version can't read its record", job_id, ASIDE_SECONDS)
            async with answering():
                await self.client.zadd(self.due_key, {job_id: time.time() + ASIDE_SECONDS}, xx=True)
            raise
        except NotFound:
            async with answering():
                await self.client.zrem(self.due_key, job_id)
            raise

    async def due(self, now: float) -> list[str]:
        """The ids of jobs that somebody must look at by `now`, the first of them first."""
        async with answering():
            due = await self.client.zrange(self.due_key, "-inf", now, byscore=True, offset=0, num=BATCH)
        return cast(list[str], due)

    async def events(self, job_id: str, after: int) -> list[dict[str, Any]]:
        """What has happened to the job, from its first event on; the first `after` of them left out."""
        async with answering():
            return [json.loads(event) for event in await self.client.lrange(self._key(job_id, "events"), after, -1)]

    async def _write(
        self,
        job_id: str,
        change: Callable[[Job | None], Job],
        payload: str = "",
        result: str = "",
    ) -> Job:
        """Optimistic locking: looks again from the start when the record was changed in between."""
        keys = [self._key(job_id, part) for part in PARTS]
        while True:
            async with answering():
                raw = await self.client.get(keys[0])
            before = self._load(job_id, raw)
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
            ]
            async with answering():
                if await self._compare_and_set([*keys, self.due_key], values):
                    return after

    def _load(self, job_id: str, raw: str | bytes | None) -> Job | None:
        """None when there is no record."""
        try:
            return None if raw is None else Job.model_validate_json(raw)
        except ValidationError as error:
            raise Unreadable("there is no such job that this version can read") from error

    def _key(self, job_id: str, part: str) -> str:
        return f"{self.prefix}:job:{job_id}:{part}".rstrip(":")


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound("there is no such job")
    return job

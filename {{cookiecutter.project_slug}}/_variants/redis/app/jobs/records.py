"""One job's record in Redis, and how it is changed: all that belongs to a change is written in one step."""

import json
import time
from collections.abc import Callable
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import to_json
from redis.asyncio import Redis

from app.errors import NotFound
from app.jobs.job import Job
from app.redis_client import answering

PARTS = ("record", "payload", "result", "events")

# A script, not WATCH and MULTI: when Redis stalls between those two, a connection is left to be tidied up, and redis-py
# waits for that without a limit.
#
# `change` is a JSON object, in which a field that is not needed is absent: a null would count as true in Lua. Times are
# strings, for Lua would write a number with 14 digits.
COMPARE_AND_SET = """
local record, payload, result, events, due, was, is = unpack(KEYS)
local change = cjson.decode(ARGV[1])
if (redis.call('GET', record) or nil) ~= change.before then return {false} end
redis.call('SET', record, change.after)
if change.payload then redis.call('SET', payload, change.payload) end
if change.result then redis.call('SET', result, change.result) end
if change.event then
    redis.call('RPUSH', events, change.event)
    redis.call('PUBLISH', change.channel, change.id)
end
if change.due then redis.call('ZADD', due, change.due, change.id) else redis.call('ZREM', due, change.id) end
if was ~= is or not change.before then
    redis.call('ZREM', was, change.id)
    redis.call('ZADD', is, change.now, change.id)
end
for _, key in ipairs({record, payload, result, events}) do
    if change.expires_in then redis.call('EXPIRE', key, change.expires_in) else redis.call('PERSIST', key) end
end
if change.expires_in then
    redis.call('ZREMRANGEBYSCORE', is, '-inf', change.now - change.expires_in)
    redis.call('EXPIRE', is, change.expires_in)
end
return {1, change.gives_payload and redis.call('GET', payload)}
"""

# Not a plain ZREM: the job may have been accepted a moment ago.
FORGET = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end"


class Unreadable(NotFound):
    """A later version of this service has written the record. It is left to that version."""


class Records:
    def __init__(self, client: Redis, queue_name: str) -> None:
        self._client = client
        self._queue_name = queue_name
        self._compare_and_set = client.register_script(COMPARE_AND_SET)
        self._forget = client.register_script(FORGET)
        self.due_key = self.index("due")

    def index(self, name: str) -> str:
        return f"{self._queue_name}:jobs:{name}"

    def key(self, job_id: str, part: str) -> str:
        return f"{self._queue_name}:job:{job_id}:{part}"

    async def read(self, job_id: str) -> str | None:
        async with answering():
            return cast(str | None, await self._client.get(self.key(job_id, "record")))

    async def write(
        self,
        job_id: str,
        raw: str | None,
        change: Callable[[Job | None], Job],
        *,
        retention: int,
        payload: str | None = None,
        result: str | None = None,
        gives_payload: bool = False,
    ) -> tuple[Job, str | None]:
        """Applies `change` to the record, and gives the new one. When `change` raises, nothing is written.

        `raw` is the record as far as the caller knows. If somebody has changed it since, it is read, and `change` is
        applied to what it is now. `retention` is in seconds, from the job's end. `payload` is written with a new record
        only. `gives_payload` asks for the payload as well, which is None when it is gone.
        """
        while True:
            before = load(raw)
            after = change(before)
            if after == before and not gives_payload:
                return after, None
            fields: dict[str, Any] = {
                "id": job_id,
                "channel": self.index("news"),
                "before": raw,
                "after": after.model_dump_json(),
                "payload": None if before else payload,
                "result": result,
                "event": None if before and before.event() == after.event() else json.dumps(after.event()),
                "due": None if after.due is None else str(after.due),
                "now": str(time.time()),
                "expires_in": retention if after.ended else None,
                "gives_payload": gives_payload or None,
            }
            keys = [*(self.key(job_id, part) for part in PARTS), self.due_key]
            indexes = [self.index((before or after).status), self.index(after.status)]
            present = to_json({name: value for name, value in fields.items() if value is not None})
            async with answering():
                written, *kept = await self._compare_and_set([*keys, *indexes], [present])
            if written:
                return after, kept[0] if kept else None
            raw = await self.read(job_id)

    async def set_aside(self, job_id: str, seconds: float) -> None:
        """Nobody looks at the job for so many seconds: it can't be run, and must not hold up others."""
        async with answering():
            await self._client.zadd(self.due_key, {job_id: time.time() + seconds}, xx=True)

    async def forget(self, job_id: str) -> None:
        """Nobody looks at the job any more, if it has no record."""
        async with answering():
            await self._forget([self.key(job_id, "record"), self.due_key], [job_id])


def load(raw: str | None) -> Job | None:
    """None when there is no record. Raises Unreadable."""
    try:
        return None if raw is None else Job.model_validate_json(raw)
    except ValidationError as error:
        raise Unreadable("there is no such job that this version can read") from error

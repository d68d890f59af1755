"""One job's record in Redis, and how it is changed: all that belongs to a change is written in one step."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast

import redis
from pydantic import ValidationError
from pydantic_core import to_json
from redis.asyncio import Redis

from app.digest import digest
from app.jobs.job import Job
from app.jobs.record_scripts import CHECK, COMPARE_AND_SET
from app.jobs.status import NoSuchJob
from app.redis_client import StoreAway, answering, words

log = logging.getLogger(__name__)
HEARD_SECONDS = 1.0  # this machine's clock carries on a time that Redis has told for so long; then Redis is asked again
PARTS = ("record", "payload", "result", "events")


class Unreadable(NoSuchJob):
    """A later version of this service has written the record. It is left to that version."""


class Records:
    def __init__(self, client: Redis, queue_name: str) -> None:
        self._client = client
        self._queue_name = queue_name
        self._compare_and_set = client.register_script(COMPARE_AND_SET)
        self._check = client.register_script(CHECK)
        # When Redis told its time, by `monotonic`, and how far Redis is ahead of that.
        self._heard = self._ahead = float("-inf")
        self._refused: set[str] = set()  # the words of Redis since it has taken something
        self.due_key, self.waits_key = self.index("due"), self.index("waits")

    def index(self, name: str, caller: str | None = None) -> str:
        """That of all jobs, or of one caller's. A caller's name may be any text, of any length."""
        of = "" if caller is None else f"of:{digest(caller)[:32]}:"
        return f"{self._queue_name}:jobs:{of}{name}"

    def key(self, job_id: str, part: str) -> str:
        return f"{self._queue_name}:job:{job_id}:{part}"

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Raises StoreAway when Redis fails or does not answer in time. Its words are logged, once."""
        try:
            async with answering():
                yield
        except StoreAway as error:
            if (refused := words(error)) not in self._refused:
                log.warning("jobs can't be read from Redis or written to it for now: %s", refused)
            self._refused.add(refused)
            raise

    async def now(self) -> float:
        """By Redis's own clock, in seconds: those of the machines that share it differ."""
        if monotonic() - self._heard >= HEARD_SECONDS:
            async with self.answering():
                self._hear(await self._client.time())
        return self._ahead + monotonic()

    async def check(self) -> None:
        """Raises StoreAway if Redis does not take what is written."""
        async with self.answering():
            await self._check([self.index("check")], [self.index("news")])
        self._note_success()

    async def read(self, job_id: str) -> str | None:
        """Redis tells its time as well. Raises Unreadable."""
        async with self.answering(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(self.key(job_id, "record"))
            time, raw = await pipe.execute(raise_on_error=False)
            self._hear(time)
            if isinstance(raw, redis.ResponseError) and str(raw).startswith("WRONGTYPE"):
                raise Unreadable
            if isinstance(raw, Exception):
                raise raw
            return cast(str | None, raw)

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
                "waits": None if after.waits_since is None else str(after.waits_since),
                "expires_in": retention if after.ended else None,
                "gives_payload": gives_payload or None,
            }
            keys = [*(self.key(job_id, part) for part in PARTS), self.due_key, self.waits_key]
            moves = (before or after).status, after.status
            indexes = [self.index(status, of) for of in (None, after.caller) for status in moves]
            present = to_json({name: value for name, value in fields.items() if value is not None})
            async with self.answering():
                written, *kept = await self._compare_and_set([*keys, *indexes], [present])
            self._note_success()
            if written:
                return after, kept[0] if kept else None
            raw = await self.read(job_id)

    def _hear(self, time: tuple[int, int] | Exception) -> None:
        if isinstance(time, Exception):
            raise time
        self._heard = monotonic()
        self._ahead = time[0] + time[1] / 1_000_000 - self._heard

    def _note_success(self) -> None:
        if self._refused:
            log.info("jobs are written to Redis again")
        self._refused.clear()


def load(raw: str | None) -> Job | None:
    """None when there is no record. Raises Unreadable."""
    try:
        return None if raw is None else Job.model_validate_json(raw)
    except ValidationError as error:
        raise Unreadable from error

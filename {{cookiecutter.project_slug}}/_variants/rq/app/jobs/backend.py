"""Hands job ids to RQ, one RQ job a dispatch. RQ carries an id to a worker; the record in Redis is the truth."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import redis
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue

from app.errors import Unavailable
from app.jobs.definition import limits
from app.jobs.job import Job
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.jobs.workers import RUN_JOB, live_workers, rq_queue
from app.redis_client import ANSWER_SECONDS, words
from app.shutdown import Shutdown

# The runner ends a job at its time limit. RQ kills one that does not let it, or whose end Redis does not take by then.
TIMEOUT_MARGIN_SECONDS = 30
CHECK_SECONDS = 0.5  # less than the second that Kubernetes gives a probe
FAILURE_SECONDS = 86_400  # how long RQ's own tools show a failed job


class RQBackend:
    """RQ is synchronous: it works in threads of its own, so that a stalled Redis takes none from the application."""

    limit = 1000

    def __init__(self, settings: JobSettings, store: Store, connection: Redis) -> None:
        self._settings = settings
        self._store = store
        self._queue = rq_queue(settings, connection)
        self._dispatching = CapacityLimiter(1)
        self._looking: set[asyncio.Task[dict[str, str]]] = set()

    async def waiting(self) -> int:
        return await run_sync(lambda: self._queue.count, limiter=self._dispatching)

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        messages = [
            Queue.prepare_data(
                RUN_JOB,
                [job.id],
                timeout=int(limits(job.task, self._settings).timeout) + TIMEOUT_MARGIN_SECONDS,
                result_ttl=0,
                failure_ttl=FAILURE_SECONDS,
            )
            for job in jobs
        ]
        await run_sync(self._queue.enqueue_many, messages, limiter=self._dispatching)

    async def checks(self) -> dict[str, str]:
        # All who ask share one look: a balancer's probes must not queue up behind a Redis that stalls.
        if not self._looking:
            self._looking.add(look := asyncio.create_task(run_sync(self._look, limiter=CapacityLimiter(1))))
            look.add_done_callback(self._looking.discard)
        (look,) = self._looking
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._store.check()
                await asyncio.wait({look})
                return look.result()
        except TimeoutError:
            return _degraded("no answer")
        except Unavailable as error:
            return _degraded(words(error))

    def _look(self) -> dict[str, str]:
        try:
            alive = live_workers(self._queue)
        except redis.RedisError as error:
            return _degraded(words(error))
        return {"redis": "ok", "worker": "ok" if alive else "degraded: none is alive, accepted jobs wait"}


def _degraded(why: str) -> dict[str, str]:
    return {"redis": f"degraded: {why}", "worker": "degraded: unknown without redis"}


@asynccontextmanager
async def open_backend(
    settings: JobSettings, store: Store, shutdown: Shutdown, wake: asyncio.Event
) -> AsyncIterator[RQBackend]:
    """Needs neither `shutdown` nor `wake`: what runs a job is another process."""
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    with Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=retry) as connection:
        yield RQBackend(settings, store, connection)

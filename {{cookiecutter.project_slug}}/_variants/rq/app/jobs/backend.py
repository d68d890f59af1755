"""Hands job ids to RQ, one RQ job a dispatch. RQ carries an id to a worker; the record in Redis is the truth."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC

import anyio
import redis
from anyio.to_thread import run_sync
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from app.jobs.connection import ANSWER_SECONDS
from app.jobs.queue import JobQueue
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.shutdown import Shutdown

TIMEOUT_MARGIN_SECONDS = 30  # the runner ends a job at its time limit; RQ kills one that does not let it
WORKER_TTL_SECONDS = 30  # an idle worker shows a sign of life every half of it
WORKER_SILENT_SECONDS = 90  # a busy one every 30 s
CHECK_SECONDS = 0.5  # less than the second that Kubernetes gives a probe
FAILURE_SECONDS = 86_400  # how long RQ's own tools show a failed job


def rq_queue(settings: JobSettings, connection: Redis) -> Queue:
    # JSON, for RQ's default is pickle: who can write to Redis could run code in a worker.
    return Queue(settings.queue_name, connection=connection, serializer=JSONSerializer)


def _degraded(why: str) -> dict[str, str]:
    return {"redis": f"degraded: {why}", "worker": "degraded: unknown without redis"}


@asynccontextmanager
async def open(settings: JobSettings, shutdown: Shutdown) -> AsyncIterator[JobQueue]:  # noqa: A001
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    connection = Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=retry)
    queue = rq_queue(settings, connection)
    # RQ is synchronous. Its threads are two and their own, so that a stalled Redis takes none from the application.
    dispatching = anyio.CapacityLimiter(1)

    def enqueue(job_id: str) -> None:
        queue.enqueue(
            "app.worker.run_job",
            job_id,
            job_timeout=int(settings.job_timeout_seconds) + TIMEOUT_MARGIN_SECONDS,
            result_ttl=0,
            failure_ttl=FAILURE_SECONDS,
        )

    def check() -> dict[str, str]:
        try:
            signs = [worker.last_heartbeat for worker in Worker.all(queue=queue)]
        except redis.RedisError as error:
            return _degraded(type(error).__name__)
        alive = [at for at in signs if at and time.time() - at.replace(tzinfo=UTC).timestamp() < WORKER_SILENT_SECONDS]
        return {"redis": "ok", "worker": "ok" if alive else "degraded: none is alive, accepted jobs wait"}

    async def dispatch(job_id: str) -> None:
        await run_sync(enqueue, job_id, limiter=dispatching)

    checking: set[asyncio.Task[dict[str, str]]] = set()

    async def checks() -> dict[str, str]:
        # All who ask share one look: a balancer's probes must not queue up behind a Redis that stalls.
        if not checking:
            checking.add(look := asyncio.create_task(run_sync(check, limiter=anyio.CapacityLimiter(1))))
            look.add_done_callback(checking.discard)
        (look,) = checking
        await asyncio.wait({look}, timeout=CHECK_SECONDS)
        return look.result() if look.done() else _degraded("no answer")

    async with Store.open(settings) as store:
        jobs = JobQueue(store, dispatch, checks)
        async with jobs.relaying():
            yield jobs
    connection.close()

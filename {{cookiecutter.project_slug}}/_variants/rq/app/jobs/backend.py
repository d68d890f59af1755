"""Hands job ids to RQ, one RQ job a dispatch. RQ carries an id to a worker; the record in Redis is the truth."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC

import redis
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from app.jobs.connection import ANSWER_SECONDS
from app.jobs.definition import limits
from app.jobs.job import Job
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


def live_workers(queue: Queue, hostname: str | None = None) -> int:
    """How many workers of the queue, on that host or on any, have shown a sign of life of late."""
    # By the name: RQ forgets the host of a worker that Redis has forgotten during an outage.
    workers = [
        worker for worker in Worker.all(queue=queue) if worker.name.startswith(f"{hostname}." if hostname else "")
    ]
    signs = [worker.last_heartbeat.replace(tzinfo=UTC) for worker in workers if worker.last_heartbeat]
    return sum(time.time() - sign.timestamp() < WORKER_SILENT_SECONDS for sign in signs)


class RQBackend:
    """RQ is synchronous: it works in threads of its own, so that a stalled Redis takes none from the application."""

    limit = 1000

    def __init__(self, settings: JobSettings, connection: Redis) -> None:
        self._settings = settings
        self._queue = rq_queue(settings, connection)
        self._dispatching = CapacityLimiter(1)
        self._looking: set[asyncio.Task[dict[str, str]]] = set()

    async def waiting(self) -> int:
        return await run_sync(lambda: self._queue.count, limiter=self._dispatching)

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        messages = [
            Queue.prepare_data(
                "app.worker.run_job",
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
        await asyncio.wait({look}, timeout=CHECK_SECONDS)
        return look.result() if look.done() else _degraded("no answer")

    def _look(self) -> dict[str, str]:
        try:
            alive = live_workers(self._queue)
        except redis.RedisError as error:
            return _degraded(type(error).__name__)
        return {"redis": "ok", "worker": "ok" if alive else "degraded: none is alive, accepted jobs wait"}


def _degraded(why: str) -> dict[str, str]:
    return {"redis": f"degraded: {why}", "worker": "degraded: unknown without redis"}


@asynccontextmanager
async def open_backend(
    settings: JobSettings, store: Store, shutdown: Shutdown, wake: asyncio.Event
) -> AsyncIterator[RQBackend]:
    """Wakes nobody: what runs a job is another process."""
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    with Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=retry) as connection:
        yield RQBackend(settings, connection)

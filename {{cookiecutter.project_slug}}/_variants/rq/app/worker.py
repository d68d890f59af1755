"""`python -m app.worker`: RQ's own worker, on this project's queue."""

import asyncio
import sys

import redis
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import SpawnWorker, Worker
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from app import logging as app_logging
from app.jobs.backend import WORKER_TTL_SECONDS, rq_queue
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.settings import Settings

# About two minutes: a worker that is in the middle of a job outlives a restart of Redis.
RECONNECT = Retry(ExponentialBackoff(cap=5, base=0.1), 30)


def run_job(job_id: str) -> None:
    """What RQ calls, in a process of its own for each job."""
    app_logging.set_up(Settings.read().log_level)
    asyncio.run(_run_job(job_id, JobSettings.read()))


async def _run_job(job_id: str, settings: JobSettings) -> None:
    async with Store.open(settings) as store:
        await run(store, job_id, settings)


def rq_worker(settings: JobSettings, worker_class: type[BaseWorker]) -> BaseWorker:
    connection = Redis.from_url(
        str(settings.redis_url),
        retry=RECONNECT,
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )
    # Exactly one queue: on several, RQ pops with a command that forgets a job whose worker dies at that moment.
    return worker_class(
        [rq_queue(settings, connection)],
        connection=connection,
        serializer=JSONSerializer,
        worker_ttl=WORKER_TTL_SECONDS,
    )


def main() -> None:
    app_logging.set_up(Settings.read().log_level)
    # macOS forbids much of what its libraries do after a fork.
    worker_class = SpawnWorker if sys.platform == "darwin" else Worker
    rq_worker(JobSettings.read(), worker_class).work()


if __name__ == "__main__":
    main()

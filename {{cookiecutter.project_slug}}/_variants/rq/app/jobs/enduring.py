"""RQ's worker, on this project's queue: it lives until it is told to stop."""

import logging
import socket
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import redis
from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from rq import Queue, SpawnWorker, Worker
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker
from rq.worker_registration import register

from app import telemetry
from app.jobs.settings import JobSettings
from app.jobs.workers import WORKER_TTL_SECONDS, Message, rq_queue
from app.redis_client import ANSWER_SECONDS, words

log = logging.getLogger(__name__)
RECONNECTS = 30  # of one call, in about two minutes: a worker in the middle of a job outlives a restart of Redis
REFUSED_SECONDS = 1.0  # from one look to the next, whether Redis takes what is written again


class Backoff(ExponentialBackoff):
    """Logs that Redis is away. Without it, the worker would wait in silence."""

    def compute(self, failures: int) -> float:
        if failures > 1:  # after the first failure, Redis is mostly there again at once
            log.warning("Redis does not answer; trying again (%d of %d)", failures, RECONNECTS)
        return super().compute(failures)


class Enduring(BaseWorker):
    """What RQ's workers lack, for both kinds of them."""

    stops = False  # whether this process was told to

    def subscribe(self) -> None:
        """It listens to no commands: anybody who can write to Redis could send them. A signal stops it."""

    def check_for_suspension(self, burst: bool) -> None:
        """Nor is it held up by `rq suspend`, which stops the workers of all who share the Redis, without a word."""

    def set_shutdown_requested_date(self) -> None:
        """RQ writes it in the handler of the signal. If Redis refused, the worker would end before its job."""

    def register_birth(self) -> None:
        super().register_birth()  # type: ignore[no-untyped-call]
        log.info("RQ's worker listens to the queue %s", self.queues[0].name)

    def handle_warm_shutdown_request(self) -> None:
        Enduring.stops = True
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]

    def register_death(self) -> None:
        """The last that it does. Redis forgets a worker by itself, so one that is told to stop waits for no Redis."""
        self.connection.set_retry(Retry(NoBackoff(), 0))
        super().register_death()  # type: ignore[no-untyped-call]

    def heartbeat(self, timeout: int | None = None, pipeline: redis.client.Pipeline | None = None) -> None:
        """RQ lists a worker only when it starts: a Redis that has lost its data would never have it there again."""
        super().heartbeat(timeout, pipeline)
        register(self, pipeline)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """What Redis refuses in the middle of a job would end the worker, and leave the job's process alone."""
        try:
            super().maintain_heartbeats(job, execution)
        except redis.RedisError as error:
            log.warning("Redis refuses the worker's sign of life: %s", words(error))

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        """RQ takes the next id, and ends its loop if that is no text. To begin it again takes a second."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except UnicodeDecodeError:
                log.warning("an id in RQ's queue is dropped: it is no text")

    def run_maintenance_tasks(self) -> None:
        """A key that RQ can't read must not keep it from its jobs."""
        try:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except Exception as error:
            if isinstance(error, redis.RedisError) and not str(error).startswith("WRONGTYPE"):
                raise
            log.exception("RQ's maintenance has failed")
            self.last_cleaned_at = datetime.now(UTC)  # type: ignore[assignment]


class ForkWorker(Enduring, Worker):
    """A process for each job, forked."""


class NewProcessWorker(Enduring, SpawnWorker):
    """A process for each job, begun anew."""

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        try:
            return super().perform_job(job, queue, execution)
        finally:
            telemetry.end_worker()


def rq_worker(settings: JobSettings, worker_class: type[BaseWorker]) -> BaseWorker:
    retry = Retry(Backoff(cap=5, base=0.1), RECONNECTS)
    connection = Redis.from_url(str(settings.redis_url), driver_info=None, retry=retry)
    return worker_class(
        [rq_queue(settings, connection)],
        name=f"{socket.gethostname()}.{uuid4().hex}",
        connection=connection,
        job_class=Message,
        serializer=JSONSerializer,
        worker_ttl=WORKER_TTL_SECONDS,
    )


def work(settings: JobSettings, worker_class: type[Enduring]) -> None:
    """Works until it is told to stop: RQ's own loop ends at all that it does not expect, such as a full Redis."""
    refused, pause = "", 0.0
    while not Enduring.stops:
        try:
            time.sleep(pause)
            pause = REFUSED_SECONDS
            _write(settings)
            if refused:
                log.info("Redis takes what is written again")
            refused = ""
            # What it says of each job is not what became of it: one that is tried again is "OK", too.
            rq_worker(settings, worker_class).work(logging_level="WARNING")
        except StopRequested:  # raised by RQ's handler of signals
            return
        except redis.RedisError as error:
            if (said := words(error)) != refused:
                log.warning("the worker waits for Redis: %s", said)
            refused = said


def _write(settings: JobSettings) -> None:
    """Raises RedisError if Redis does not take it. The key is the one of Records.check."""
    with Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0)) as client:
        client.set(f"{settings.queue_name}:jobs:check", 1, px=1000)

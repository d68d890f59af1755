"""Dramatiq's broker on Redis."""

from collections.abc import Sequence

import redis
from dramatiq import Middleware, Worker
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.jobs.settings import JobSettings
from app.redis_client import ANSWER_SECONDS

OPTIONS_OF_BROKER: dict[str, type] = {"redis_message_id": str}  # what it adds to those of a message


def worker_broker(settings: JobSettings, middleware: Sequence[Middleware]) -> RedisBroker:
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    client = redis.Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=retry)
    return RedisBroker(client=client, middleware=[*middleware])  # type: ignore[no-untyped-call]


def sender_broker(settings: JobSettings) -> RedisBroker:
    return worker_broker(settings, [])


def tune(worker: Worker) -> None:
    # In milliseconds. While its threads are busy, a worker asks Redis more and more rarely, but at least this often. By
    # default, a thread that is done may wait for its next job for a second.
    worker.worker_timeout = 100


def waiting(broker: RedisBroker, queue: str) -> int:
    return int(broker.client.llen(f"{broker.namespace}:{queue}"))


def close(broker: RedisBroker) -> None:
    broker.client.close()

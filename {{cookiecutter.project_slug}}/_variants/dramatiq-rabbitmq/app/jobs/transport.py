"""Dramatiq's broker on RabbitMQ. Dramatiq itself makes its queues durable and its messages persistent."""

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pika  # type: ignore[import-untyped]
from dramatiq import Middleware, Worker
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from app.jobs.settings import JobSettings
from app.redis_client import ANSWER_SECONDS

OPTIONS_OF_BROKER: dict[str, type] = {}  # what it adds to those of a message


def worker_broker(settings: JobSettings, middleware: Sequence[Middleware]) -> RabbitmqBroker:
    return RabbitmqBroker(url=str(settings.broker_url), middleware=[*middleware])


def sender_broker(settings: JobSettings) -> RabbitmqBroker:
    """A broker with one connection, for one thread at a time. Dramatiq's own has one for each thread."""
    parameters = pika.URLParameters(str(settings.broker_url))
    parameters.socket_timeout = parameters.blocked_connection_timeout = ANSWER_SECONDS
    # No heartbeats, for nobody would answer them between two jobs. The kernel finds out when RabbitMQ's host is gone.
    parameters.heartbeat = 0
    parameters.tcp_options = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    if sys.platform == "linux":  # in ms; what was sent is waited for without keep-alives, and by default for 15 minutes
        parameters.tcp_options["TCP_USER_TIMEOUT"] = 25_000
    broker = RabbitmqBroker(middleware=[])
    broker.parameters = parameters
    broker.state = SimpleNamespace()  # type: ignore[assignment]
    return broker


def tune(worker: Worker) -> None:
    # Dramatiq fetches two messages for each thread. The second would wait here though another process is idle.
    worker.queue_prefetch = worker.worker_threads


def waiting(broker: RabbitmqBroker, queue: str) -> int:
    return int(broker.get_queue_message_counts(queue)[0])


def close(broker: RabbitmqBroker) -> None:
    del broker.connection

"""Dramatiq's broker on RabbitMQ. Its queues are durable and its messages persistent, as Dramatiq makes them."""

from collections.abc import Sequence
from types import SimpleNamespace

import pika  # type: ignore[import-untyped]
from dramatiq import Middleware, Worker
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from app.jobs.connection import ANSWER_SECONDS
from app.jobs.settings import JobSettings


def worker_broker(settings: JobSettings, middleware: Sequence[Middleware]) -> RabbitmqBroker:
    return RabbitmqBroker(url=str(settings.broker_url), middleware=[*middleware])


def sender_broker(settings: JobSettings) -> RabbitmqBroker:
    """Has one connection, for one thread at a time, where Dramatiq would have one for each thread of a pool."""
    parameters = pika.URLParameters(str(settings.broker_url))
    parameters.socket_timeout = parameters.blocked_connection_timeout = ANSWER_SECONDS
    # Nobody would answer RabbitMQ's heartbeats between two jobs. That its host has gone, the kernel finds out.
    parameters.heartbeat = 0
    parameters.tcp_options = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    broker = RabbitmqBroker(middleware=[])
    broker.parameters = parameters
    broker.state = SimpleNamespace()  # type: ignore[assignment]
    return broker


def tune(worker: Worker) -> None:
    # Dramatiq fetches two for each thread: the second would wait here though another process has nothing to do.
    worker.queue_prefetch = worker.worker_threads


def waiting(broker: RabbitmqBroker, queue: str) -> int:
    return int(broker.get_queue_message_counts(queue)[0])


def close(broker: RabbitmqBroker) -> None:
    del broker.connection

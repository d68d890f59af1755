"""`python -m app.worker health`, for a container's probe. It imports little, so that it takes little CPU."""

import socket
from urllib.parse import urlsplit

from app.jobs.plain_redis import ANSWER_SECONDS, Away, try_to_write
from app.jobs.settings import JobSettings
from app.jobs.signs import live_workers

AMQP = b"AMQP\0\0\x09\x01"  # how a client begins; RabbitMQ answers at once, before it asks who that is


def health() -> str | None:
    """What is wrong with this host's workers, or None. It is None also when Redis or RabbitMQ is away, or Redis refuses
    what workers write, for a restart of the workers would not cure that."""
    settings = JobSettings.read()
    try:
        if live_workers(settings, socket.gethostname()):
            return None
        try_to_write(settings)
    except Away as away:
        print(f"unknown: Redis: {away.__cause__}")
        return None
    try:
        _greet(str(settings.broker_url))
    except (OSError, ValueError) as error:
        print(f"unknown: the broker does not answer ({type(error).__name__})")
        return None
    return f"no worker of {socket.gethostname()} is alive"


def _greet(url: str) -> None:
    """Raises OSError if RabbitMQ does not answer. Behind TLS, it is enough that somebody takes the connection."""
    parts = urlsplit(url)
    tls = parts.scheme == "amqps"
    address = (parts.hostname or "127.0.0.1", parts.port or (5671 if tls else 5672))
    with socket.create_connection(address, ANSWER_SECONDS) as connection:
        if not tls:
            connection.sendall(AMQP)
            if not connection.recv(1):
                raise ConnectionError("RabbitMQ has closed the connection")

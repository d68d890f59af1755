"""Redis for a probe, which has a second: a few questions, each answered at once or not at all."""

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.jobs.settings import JobSettings

ANSWER_SECONDS = 0.5


class Away(Exception):
    """Redis fails, or does not answer in time."""


def ask(url: str, *commands: Sequence[str]) -> list[Any]:
    """What Redis answers to each command. Raises Away."""
    options: dict[str, Any] = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    options |= {"decode_responses": True, "encoding_errors": "surrogateescape"}  # what is no text hides nothing else
    try:
        with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options) as client:
            return [client.execute_command(*command) for command in commands]
    except (redis.RedisError, ValueError) as error:
        raise Away from error


def try_to_write(settings: JobSettings) -> None:
    """Raises Away if Redis refuses: it is full, or read-only after a failover."""
    ask(str(settings.redis_url), ["SET", f"{settings.queue_name}:jobs:check", "1", "PX", "1000"])

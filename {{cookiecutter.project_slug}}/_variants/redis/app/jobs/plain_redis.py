"""Redis, and settings that are not typed, for a probe. It has a second, and the typed settings take a third of one."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from dotenv import dotenv_values
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import PROJECT

ANSWER_SECONDS = 0.5


class Away(Exception):
    """Redis fails, or does not answer in time."""


def settings() -> dict[str, str]:
    """Those of the environment, or else of `.env`, by their names in upper case. What a probe needs has its default."""
    found = {**dotenv_values(os.environ.get("ENV_FILE") or ".env"), **os.environ}
    named = {name.upper(): value for name, value in found.items() if value is not None}
    return {"REDIS_URL": "redis://127.0.0.1:6379/0", "QUEUE_NAME": PROJECT, **named}


def ask(url: str, *commands: Sequence[str]) -> list[Any]:
    """What Redis answers to each command. Raises Away."""
    options: dict[str, Any] = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    options |= {"decode_responses": True, "encoding_errors": "surrogateescape"}  # what is no text hides nothing else
    try:
        with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options) as client:
            return [client.execute_command(*command) for command in commands]
    except (redis.RedisError, ValueError) as error:
        raise Away from error


def try_to_write(known: Mapping[str, str]) -> None:
    """Raises Away if Redis refuses: it is full, or read-only after a failover."""
    ask(known["REDIS_URL"], ["SET", f"{known['QUEUE_NAME']}:jobs:check", "1", "PX", "1000"])

"""Redis over a plain socket, and settings that are not typed. This is for a probe, which has a second: to import
Redis's client and the typed settings takes more than half of one.
"""

import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values

from app import PROJECT

ANSWER_SECONDS = 0.5


class Away(Exception):
    """Redis fails, or does not answer in time."""


def settings() -> dict[str, str]:
    """Those of the environment, or else of `.env`, by their names in upper case, with the defaults of what is asked for
    here."""
    found = {**dotenv_values(os.environ.get("ENV_FILE") or ".env"), **os.environ}
    named = {name.upper(): value for name, value in found.items() if value is not None}
    return {"REDIS_URL": "redis://127.0.0.1:6379/0", "QUEUE_NAME": PROJECT, **named}


def ask(url: str, *commands: Sequence[str]) -> list[Any]:
    """What Redis answers to each command. Raises Away."""
    try:
        return _with_client(url, commands) if urlsplit(url).query else _ask(url, commands)
    except (OSError, ValueError) as error:
        raise Away from error


def _ask(url: str, commands: Sequence[Sequence[str]]) -> list[Any]:
    parts = urlsplit(url)
    before = []
    if parts.password:
        user = [unquote(parts.username)] if parts.username else []
        before.append(["AUTH", *user, unquote(parts.password)])
    before.append(["SELECT", parts.path.strip("/") or "0"])
    host = parts.hostname or "127.0.0.1"
    with socket.create_connection((host, parts.port or 6379), ANSWER_SECONDS) as plain:
        connection = plain
        if parts.scheme == "rediss":
            connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        connection.sendall(b"".join(map(_packed, [*before, *commands])))
        with connection.makefile("rb") as answers:
            return [_read(answers) for _ in [*before, *commands]][len(before) :]


def _packed(command: Sequence[str]) -> bytes:
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _read(answers: BinaryIO) -> Any:
    """In Redis's protocol, RESP2, the first byte of a line says what follows."""
    kind, rest = (line := answers.readline().rstrip())[:1], line[1:].decode()
    if kind == b"*":
        return [_read(answers) for _ in range(int(rest))]
    if kind == b"$":
        return None if rest == "-1" else answers.read(int(rest) + 2)[:-2].decode()
    if kind in (b"+", b":"):
        return rest
    raise ConnectionError(rest or "Redis has closed the connection")


def _with_client(url: str, commands: Sequence[Sequence[str]]) -> list[Any]:
    """For a URL with options: the client knows them all."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry = Retry(NoBackoff(), 0)
    try:
        with redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=retry,
        ) as client:
            return [client.execute_command(*command) for command in commands]
    except redis.RedisError as error:
        raise Away from error

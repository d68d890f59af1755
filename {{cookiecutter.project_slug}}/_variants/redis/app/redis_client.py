"""A process's connections to Redis, and how long it waits for a reply. Each room says itself what it keeps there."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis
from pydantic import BaseModel, Field, RedisDsn, field_validator
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.errors import Unavailable
from app.settings import PROJECT

ANSWER_SECONDS = 2.0  # then a request is refused: to wait on would hold a connection, and the caller can try again
CLUSTER = (exceptions.AskError, exceptions.ClusterCrossSlotError, exceptions.ClusterDownError)
CONNECTIONS = 8  # of a pool. The chat has one for its requests, jobs have one for their records; others are smaller
# Redis 6.2 says it before its words, and a later one behind them.
OF_A_SCRIPT = re.compile(r"^.*@user_script: \d+: -?| script: (\w+, )?on @user_script.*")


class StoreAway(Unavailable):
    """Redis fails, or does not answer in time. What Redis says is in the cause."""


class RedisSettings(BaseModel):
    """Which Redis, and which keys: all begin with the queue's name."""

    redis_url: RedisDsn = RedisDsn("redis://127.0.0.1:6379/0")
    queue_name: str = Field(PROJECT, max_length=200)  # a broker may take 255 bytes, and libraries add some

    @field_validator("redis_url")
    @classmethod
    def _can_be_used(cls, url: RedisDsn) -> RedisDsn:
        if not re.fullmatch(r"(/\d*)?", url.path or ""):
            raise ValueError("its path is the number of a database, such as /0")
        try:
            for pool in (redis.ConnectionPool, BlockingConnectionPool):  # both kinds are used, and take others
                pool.from_url(str(url)).make_connection()  # it connects only when it is used
        except Exception:  # of many kinds: a TypeError, an AttributeError, one of redis-py's own
            raise ValueError("has a parameter behind its ? that redis-py does not take") from None
        return url

    @field_validator("queue_name")
    @classmethod
    def _is_one_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z_][\w.-]*", name, re.ASCII | re.IGNORECASE):
            raise ValueError("a letter and then letters, digits, . _ -; a worker listens to exactly one queue")
        return name


@asynccontextmanager
async def connect(settings: RedisSettings, connections: int = CONNECTIONS) -> AsyncIterator[Redis]:
    pool = BlockingConnectionPool.from_url(
        str(settings.redis_url),
        decode_responses=True,
        # By default a value that is no UTF-8 raises ValueError, and what came with it is lost. So its bytes become
        # surrogates, and whoever reads that value finds that it is no JSON.
        encoding_errors="surrogateescape",
        # Without this, each new process looks up redis-py's version in a file, and sends it to Redis.
        driver_info=None,
        max_connections=connections,  # when all are in use this pool waits, and the default one raises
        timeout=ANSWER_SECONDS,
        # `answering` limits the time. With a timeout here, the client would send through `asyncio.wait_for`, which can
        # swallow a cancellation on Python 3.11 (python/cpython#86296). The relay would then outlive the shutdown.
        socket_timeout=None,
        socket_connect_timeout=ANSWER_SECONDS,
        # One retry: a connection from before a restart of Redis is found to be dead only when it is used.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    async with Redis.from_pool(pool) as client:
        yield client


@asynccontextmanager
async def answering(seconds: float | None = None) -> AsyncIterator[None]:
    """Raises StoreAway when Redis fails, or has not answered after so many seconds, by default ANSWER_SECONDS."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS if seconds is None else seconds):
            yield
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise StoreAway("the store does not answer") from error


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raises StoreAway after so many seconds. What the block raises by itself comes out as it is."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StoreAway("the store does not answer") from error


def words(error: BaseException) -> str:
    """Those of Redis, if it has said any. Those of a script come without its name."""
    error = error.__cause__ or error
    if isinstance(error, CLUSTER):
        return "it is a cluster, which is not supported: what is written in one step lies in several of its slots"
    return OF_A_SCRIPT.sub("", str(error)) or type(error).__name__

"""The connections of one process to Redis, and how long it waits for an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.errors import Unavailable
from app.jobs.settings import JobSettings

ANSWER_SECONDS = 2.0  # past it a request is refused: the caller can try again, a waiting one holds a connection
CONNECTIONS = 8  # of a web process; what hands jobs over and looks at the queue has its own


@asynccontextmanager
async def connect(settings: JobSettings) -> AsyncIterator[Redis]:
    pool = BlockingConnectionPool.from_url(
        str(settings.redis_url),
        decode_responses=True,
        # Else redis-py looks up its own version in a file, for the process of each job anew, and sends it to Redis.
        driver_info=None,
        max_connections=CONNECTIONS,  # the default pool raises when it is exhausted, this one waits
        timeout=ANSWER_SECONDS,
        # `answering` keeps the time. With a timeout of its own the client sends through `asyncio.wait_for`, which
        # on Python 3.11 can swallow a cancellation (python/cpython#86296): the relay then outlives the shutdown.
        socket_timeout=None,
        socket_connect_timeout=ANSWER_SECONDS,
        # Once: a connection from before a restart of Redis is found dead on use.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    async with Redis.from_pool(pool) as client:
        yield client


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise Unavailable("the job store does not answer") from error

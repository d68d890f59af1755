"""Which workers are alive. Each of them shows itself in Redis from time to time:

NAME:workers           a sorted set: the host and the process of each worker, and when it showed itself last
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import Unavailable
from app.jobs.broker_thread import BrokerThread
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.redis_client import ANSWER_SECONDS, answering

SHOW_SECONDS = 5.0
SILENT_SECONDS = 30.0  # for this time, a worker that was killed counts as alive
BROKER_SECONDS = 5.0  # less than compose.yaml gives a worker's probe
CHECK_SECONDS = 0.5  # less than the second that Kubernetes gives a probe


def _key(settings: JobSettings) -> str:
    return f"{settings.queue_name}:workers"


class Presence:
    """Shows that this process is alive. While Redis is away it is not shown, and works on."""

    def __init__(self, settings: JobSettings) -> None:
        self._key = _key(settings)
        self._name = f"{socket.gethostname()}.{os.getpid()}"
        retry = Retry(NoBackoff(), 0)
        self._redis = redis.Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=retry)
        self._shown = float("-inf")

    def show(self) -> None:
        """Does nothing when the last call was less than SHOW_SECONDS ago."""
        if time.monotonic() - self._shown < SHOW_SECONDS:
            return
        self._shown = time.monotonic()
        with suppress(redis.RedisError):
            self._redis.zadd(self._key, {self._name: time.time()})
            self._redis.zremrangebyscore(self._key, "-inf", time.time() - SILENT_SECONDS)

    def end(self) -> None:
        """Takes it off the list at once: nobody has to wait until it has been silent for long enough."""
        with self._redis, suppress(redis.RedisError):
            self._redis.zrem(self._key, self._name)


async def live_workers(store: Store, settings: JobSettings, host: str | None = None) -> int:
    """How many workers of that host, or of all hosts, have shown themselves in the last SILENT_SECONDS."""
    async with answering():
        names = await store.client.zrange(_key(settings), time.time() - SILENT_SECONDS, "+inf", byscore=True)
    return sum(host is None or str(name).rpartition(".")[0] == host for name in names)


async def checks(store: Store, settings: JobSettings, broker: Callable[[], Awaitable[object]]) -> dict[str, str]:
    """Whether Redis, the broker and a worker are `ok`, or why not. `broker` raises when the broker is away."""
    found = {"redis": "ok", "broker": "ok", "worker": "ok"}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            if not await live_workers(store, settings):
                found["worker"] = "degraded: none is alive, accepted jobs wait"
    except (Unavailable, TimeoutError):
        found |= {"redis": "degraded: no answer", "worker": "degraded: unknown without redis"}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await broker()
    except TimeoutError:
        found["broker"] = "degraded: no answer"
    except Exception as error:
        found["broker"] = f"degraded: {type(error).__name__}"
    return found


async def health(settings: JobSettings) -> str | None:
    """What is wrong with this host's workers, or None. It is None also when Redis or the broker is away, for a restart
    of the workers would not cure that."""
    async with Store.open(settings) as store:
        try:
            if await live_workers(store, settings, socket.gethostname()):
                return None
        except Unavailable:
            print("unknown: Redis does not answer")
            return None
    broker = BrokerThread(settings)
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            await broker.ask(broker.sender.waiting)
    except Exception as error:
        print(f"unknown: the broker does not answer ({type(error).__name__})")
        return None
    finally:
        await broker.close()
    return f"no worker of {socket.gethostname()} is alive"

"""Which workers are alive. Each of them shows itself in Redis from time to time, as `app/jobs/signs.py` says."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import Unavailable
from app.jobs.settings import JobSettings
from app.jobs.signs import SILENT_SECONDS, WORKERS_KEY
from app.jobs.store import Store
from app.redis_client import ANSWER_SECONDS, answering, words

SHOW_SECONDS = 5.0
CHECK_SECONDS = 0.5  # less than the second that Kubernetes gives a probe


class Presence:
    """Shows that this process is alive. While Redis is away it is not shown, and works on. Any thread may call it."""

    def __init__(self, settings: JobSettings) -> None:
        self._key = WORKERS_KEY.format(settings.queue_name)
        self._name = f"{socket.gethostname()}.{os.getpid()}"
        retry = Retry(NoBackoff(), 0)
        self._redis = redis.Redis.from_url(str(settings.redis_url), socket_timeout=ANSWER_SECONDS, retry=retry)
        self._shown = float("-inf")
        self._lock = threading.Lock()  # what shows itself while another thread ends it would fail, or be back

    def show(self) -> None:
        """Does nothing when the last call was less than SHOW_SECONDS ago, and after the end."""
        with self._lock, suppress(redis.RedisError):
            if time.monotonic() - self._shown < SHOW_SECONDS:
                return
            self._shown = time.monotonic()
            now, _ = self._redis.time()  # not this machine's, which may differ from that of who looks
            self._redis.zadd(self._key, {self._name: now})
            self._redis.zremrangebyscore(self._key, "-inf", now - SILENT_SECONDS)

    def end(self) -> None:
        """Takes it off the list at once: nobody has to wait until it has been silent for long enough."""
        with self._lock, self._redis, suppress(redis.RedisError):
            self._shown = float("inf")
            self._redis.zrem(self._key, self._name)


async def live_workers(store: Store, settings: JobSettings) -> int:
    """How many workers have shown themselves in the last SILENT_SECONDS, on all hosts."""
    now = await store.now()
    # Not without end: the clock of Redis may have been ahead, before a failover, and a worker of then may be dead.
    since, until = now - SILENT_SECONDS, now + SILENT_SECONDS
    async with answering():
        return int(await store.client.zcount(WORKERS_KEY.format(settings.queue_name), since, until))


async def checks(store: Store, settings: JobSettings, broker: Callable[[], Awaitable[object]]) -> dict[str, str]:
    """Whether Redis, the broker and a worker are `ok`, or why not. `broker` raises when the broker is away."""
    found = {"redis": "ok", "broker": "ok", "worker": "ok"}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await store.check()
            if not await live_workers(store, settings):
                found["worker"] = "degraded: none is alive, accepted jobs wait"
    except TimeoutError:
        found |= {"redis": "degraded: no answer", "worker": "degraded: unknown without redis"}
    except Unavailable as error:
        found |= {"redis": f"degraded: {words(error)}", "worker": "degraded: unknown without redis"}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await broker()
    except TimeoutError:
        found["broker"] = "degraded: no answer"
    except Exception as error:
        found["broker"] = f"degraded: {type(error).__name__}"
    return found

"""Tells this process of news that others have written, over one connection for all who watch.

What Redis publishes while nobody is subscribed is lost (145 of 400 events over a disconnect of a second, when we
tried). So it only wakes: what is new is read from the job's list, and after each new subscription everybody looks.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

import redis
from redis.asyncio import Redis

from app.jobs.watchers import Watchers

SILENCE_SECONDS = 30.0  # a connection can be dead without a sign: one that was silent for so long is replaced
RESUBSCRIBE_SECONDS = 1.0


class News(Watchers):
    def __init__(self, client: Redis, channel: str) -> None:
        super().__init__()
        self._client = client
        self._channel = channel
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        if self._listening is None:  # a worker never watches, and has no such connection
            self._listening = asyncio.create_task(self._listen())
        with super().watch(job_id) as news:
            yield news

    async def _listen(self) -> None:
        while True:
            with suppress(redis.RedisError, OSError, TimeoutError):
                await self._subscribed()
            await asyncio.sleep(RESUBSCRIBE_SECONDS)

    async def _subscribed(self) -> None:
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await pubsub.get_message(timeout=None)
                if message and message["type"] == "message":
                    self.tell(message["data"])
                elif message:
                    self.tell_all()

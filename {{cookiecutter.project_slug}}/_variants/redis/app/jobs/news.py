"""Wakes those in this process who watch a job when it has news, whichever process has written it. All of them share one
connection.

What Redis publishes while nobody is subscribed is lost: 145 of 400 events over a disconnect of a second, when we tried.
So a message only says that there is news. What is new is read from the job's list, and after each new subscription
everybody looks there.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from redis.asyncio import Redis

from app.jobs.watchers import Watchers
from app.redis_client import words

log = logging.getLogger(__name__)
SILENCE_SECONDS = 30.0  # then a connection is replaced, for it may be dead without a sign
RESUBSCRIBE_SECONDS = 1.0


class News(Watchers):
    def __init__(self, client: Redis, channel: str) -> None:
        super().__init__()
        self._client = client
        self._channel = channel
        self._listening: asyncio.Task[None] | None = None
        self._refused = ""  # the words of Redis, the last time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        if self._listening is None:  # not earlier: a worker never watches, and needs no such connection
            self._listening = asyncio.create_task(self._listen())
        with super().watch(job_id) as news:
            yield news

    async def _listen(self) -> None:
        while True:
            try:
                with suppress(TimeoutError):
                    await self._subscribed()
            except Exception as error:  # whatever it is: without this, those who follow a job would wait for ever
                if (refused := words(error)) != self._refused:
                    log.warning("news of jobs comes late for now: %s", refused)
                self._refused = refused
                self.tell_all()  # they look each time
            await asyncio.sleep(RESUBSCRIBE_SECONDS)

    async def _subscribed(self) -> None:
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await pubsub.get_message(timeout=None)
                self._refused = ""
                if message and message["type"] == "message":
                    self.tell(message["data"])
                elif message:
                    self.tell_all()

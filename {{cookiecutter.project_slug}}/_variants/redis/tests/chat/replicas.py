"""Processes of one service, in one: each has answers and a store of its own, and all share a Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from redis.asyncio import Redis

from app.chat.answer import Answer
from app.chat.answer_calls import Reply, Times, Write
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_store import AnswerStore
from app.chat.answers import Answers
from app.chat.known_answer import KnownAnswer
from app.chat.providers.base import Message
from app.redis_client import connect
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.events import Event
from tests.providers import ScriptedProvider

SCANNED = 10_000  # keys at a time: other tests leave many of theirs
WAIT_SECONDS = 10.0  # only a broken test waits that long
QUESTION = [Message(role="user", content="?")]
BRISK = Times(lease=0.5, suspicion=0.1, renew=0.05, write=0.01, look=0.02)
PATIENT = replace(BRISK, lease=30.0)


class Replica:
    def __init__(self, answers: Answers, store: AnswerStore, provider: ScriptedProvider) -> None:
        self.answers = answers
        self.store = store
        self.provider = provider
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        append = store._writer._records.append

        async def append_if_alive(writes: Sequence[Write]) -> list[Reply | Exception]:
            await self._goes_on.wait()
            return await append(writes)

        store._writer._records.append = append_if_alive  # type: ignore[method-assign]

    async def ask(self, key: str | None = None) -> KnownAnswer:
        return await self.answers.ask(QUESTION, "me", key=key)

    async def start(self) -> Answer:
        return await self.answers.start(QUESTION, "me")

    async def get(self, answer: KnownAnswer) -> KnownAnswer:
        return await self.answers.get(answer.id, "me")

    def stand_still(self) -> None:
        """It writes nothing any more, as a process that was killed, or stopped. It still reserves, and has readers."""
        self._goes_on.clear()

    def go_on(self) -> None:
        self._goes_on.set()


class Service:
    def __init__(self, settings: AnswerSettings, redis: Redis, open_replica: Callable[..., Awaitable[Replica]]) -> None:
        self.settings = settings
        self.redis = redis
        self.replica = open_replica

    async def keys(self) -> list[str]:
        return sorted([key async for key in self.redis.scan_iter(f"{self.settings.queue_name}:*", SCANNED)])


@asynccontextmanager
async def service(settings: AnswerSettings) -> AsyncIterator[Service]:
    async with connect(settings) as redis, AsyncExitStack() as stack:

        async def replica(*script: object, times: Times = PATIENT) -> Replica:
            provider = ScriptedProvider(*script)
            store = await stack.enter_async_context(AnswerStore.open(settings, times=times))
            answers = Answers(store, provider, Settings(_env_file=None), settings, Shutdown(1))
            stack.push_async_callback(answers.close)
            stack.callback(answers.lose_all)
            replica = Replica(answers, store, provider)
            stack.callback(replica.go_on)
            return replica

        stack.push_async_callback(redis.ping)  # a pause is over for the next test
        yield Service(settings, redis, replica)


async def read(answer: KnownAnswer, place: int = 0, until: str = "done") -> list[Event]:
    """The events behind a place, up to the first of that type, or token of that text."""
    events: list[Event] = []
    with answer.reading():
        async with asyncio.timeout(WAIT_SECONDS):
            while batch := await answer.log.after(place + len(events), WAIT_SECONDS):
                for event in batch:
                    events.append(event)
                    if until in (event.event_type, vars(event).get("text")):
                        return events
    raise AssertionError(f"ended before {until}: {events}")

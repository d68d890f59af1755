"""Where answers are kept: while they run, in the process that runs their model, and behind that in Redis. So whoever
comes back may come to any process, and finds the answer also when the one that made it is gone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

from redis.asyncio import Redis

from app.admission import Admit
from app.chat.answer import Answer
from app.chat.answer_calls import Times
from app.chat.answer_mirror import Mirror
from app.chat.answer_mirrors import Mirrors
from app.chat.answer_names import Joins as Joins
from app.chat.answer_names import Names
from app.chat.answer_records import Records
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_writer import Writer
from app.chat.answers_here import AnswersHere
from app.chat.known_answer import Asked, KnownAnswer, Name
from app.errors import NotFound
from app.redis_client import StoreAway, connect, words

MAX_BYTES = 256 * 1024 * 1024  # of the memory of this process
APPEARS_SECONDS = (0.0, 0.1, 0.3, 0.6)  # pauses: an answer may be known to its caller before it is in Redis
UNREAD_SECONDS = 5.0  # after the drain time, for clients to come back elsewhere: the grace would hold up a deploy


class AnswerStore:
    """Keeps answers, and finds them by id and by the names that callers have for them, whichever process makes them."""

    def __init__(self, settings: AnswerSettings, requests: Records, ticks: Records) -> None:
        self._settings = settings
        self._records = requests
        self._here = AnswersHere()
        self._writer = Writer(ticks, self._forget)
        self._forgetting: dict[str, asyncio.TimerHandle] = {}  # of those that have ended, and are not in Redis yet
        self._mirrors = Mirrors(requests, ticks)
        most = settings.max_answers_per_caller
        self._names = Names(requests, self._here, self._mirrors, self._writer.reserved, self._has_space, most)
        self._draining = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: AnswerSettings, processes: int = 1, times: Times | None = None
    ) -> AsyncIterator["AnswerStore"]:
        """However many `processes` there are, they share it. Tests have `times` of their own."""
        holder, retention, times = token_hex(8), settings.answer_retention_seconds, times or Times()

        def records(client: Redis) -> Records:
            return Records(client, settings.queue_name, retention, times, holder, settings.max_answers_per_caller)

        async with connect(settings) as requests, connect(settings, connections=2) as ticks:  # the writer, and mirrors
            store = cls(settings, records(requests), records(ticks))
            async with store._writer.running(), store._mirrors.running():
                yield store

    async def find_or_reserve(
        self, asked: Asked, joins: Joins | None = None, admit: Admit | None = None
    ) -> KnownAnswer | None:
        """Gives the answer of that name, if there is one and `joins` says that it will do. Else gives None. Then there
        is space for the new one: `add` it before anything is awaited, or `give_back` the space.

        Raises Unavailable if there is no space, or if nobody can say whether an Idempotency-Key is in use, and TooMany
        if `admit` does, or too many of the caller's run.
        """
        return await self._names.find_or_reserve(asked, joins, admit)

    async def give_back(self, asked: Asked) -> None:
        """For an answer that is not added: its name and its place are free at once. Raises Unavailable."""
        self._writer.reserved.discard(asked.id)
        await self._records.give_back(asked)

    def add(self, answer: Answer) -> None:
        self._here.add(answer)
        self._writer.add(answer)
        answer.run.closed.add_done_callback(lambda _: self._forget_in_time(answer))

    async def get(self, answer_id: str, caller: str) -> KnownAnswer:
        """Raises NotFound if it is not known, not known any more, or another caller's, and Unavailable."""
        for pause in APPEARS_SECONDS:
            await asyncio.sleep(pause)
            if answer := await self._names.known(answer_id, caller):
                return answer
        raise NotFound("no such answer")

    async def named(self, name: Name) -> KnownAnswer | None:
        """Raises Unavailable."""
        if here := self._here.named(name):
            return here
        answer_id = await self._records.named(name)
        known = await self._names.known(answer_id, caller=name[1]) if answer_id else None
        return None if isinstance(known, Mirror) and not (known.begun or known.may_begin) else known

    def running(self) -> list[Answer]:
        return self._here.running()

    def drain(self) -> None:
        """For the end of the drain time. Answers that can be read elsewhere go on for a while. If this is called again,
        somebody hurries, and they are lost."""
        if self._draining or not self._settings.answer_drain_seconds:
            self.lose_all()
            return
        self._draining = self._writer.draining = True
        asyncio.get_running_loop().call_later(self._settings.answer_drain_seconds, self.lose_all)
        for answer in self.running():
            if self._writer.is_shared(answer):
                answer.grace = UNREAD_SECONDS
                with answer.reading():  # it looks at its grace again, which begins now
                    pass
            else:
                answer.lose()

    def lose_all(self) -> None:
        for answer in self.running():
            answer.lose()

    async def check(self) -> str:
        """`ok`, or `degraded: ` and why. Never raises."""
        try:
            await self._records.check()
        except StoreAway as error:
            return f"degraded: answers are only in the memory of their processes: {words(error)}"
        return "degraded: too many answers at once" if self._is_full() else "ok"

    def _forget_in_time(self, answer: Answer) -> None:
        """Redis may be away for longer than the answer is kept."""
        if self._here.get(answer.id):
            self._forgetting[answer.id] = answer.call_later(self._records.kept_ended, self._writer.forget, answer.id)

    def _forget(self, answer: Answer) -> None:
        if timer := self._forgetting.pop(answer.id, None):
            timer.cancel()
        self._here.forget(answer)

    def _has_space(self) -> bool:
        ended = self._here.ended()  # they wait for a Redis that is away
        while self._bytes() >= MAX_BYTES and ended:
            self._writer.forget(ended.pop(0).id)
        return not self._is_full()

    def _is_full(self) -> bool:
        return self._bytes() >= MAX_BYTES or len(self.running()) >= self._settings.max_answers

    def _bytes(self) -> int:
        return self._mirrors.bytes + self._here.bytes

"""Where answers are kept: while they run, in the process that runs their model, and behind that in Redis. So whoever
comes back may come to any process, and finds the answer also when the one that made it is gone.

In Redis, every key begins with the queue's name:

NAME:answer:ID:events       a list: an event's place in it is its id
NAME:answer:ID:state        a hash: who writes the answer (`holder`) until when (`lease`), who asked what (`caller`,
                            `fingerprint`), whether it has `ended`, whether a caller has asked to `stop` it, when it was
                            last `read`, and since when it is `suspected` to have no writer any more
NAME:answers:name:DIGEST    the id of the answer that a caller knows by an Idempotency-Key, or by its chat
NAME:answers:running        a sorted set: the ids of answers that run, and when each is gone if nobody writes it
NAME:answers:ended          a sorted set: the ids of those that have ended, and when each is gone
NAME:answers:bytes          a hash: about how many bytes each takes, and the `total`

All of them expire: an answer that runs ten leases after its last write, and one that has ended after its retention.
Times are those of Redis's own clock, in milliseconds. Fields and events that this version does not know are kept, so
that two versions can run side by side.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ClassVar
from weakref import WeakValueDictionary

from pydantic import Field

from app.chat.answer import Answer
from app.chat.answer_mirrors import Mirror, Mirrors
from app.chat.answer_records import FULL, Records, Times
from app.chat.answer_writer import Writer
from app.chat.known_answer import Asked, KnownAnswer, Name
from app.errors import NotFound, Unavailable
from app.redis_client import RedisSettings, answering, connect
from app.settings import EnvSettings

log = logging.getLogger(__name__)
MAX_BYTES = 256 * 1024 * 1024
CLAIM_SECONDS = 2.0  # for an Idempotency-Key: a second run of the same would be paid for
WAIT_SECONDS = 0.5  # else. Then the answer begins without Redis
APPEARS_SECONDS = (0.0, 0.1, 0.3, 0.6)  # an answer may be known to its caller a moment before it is in Redis
LOOK_SECONDS = 0.1  # from one look for it to the next
UNREAD_SECONDS = 5.0  # once the drain time is over, an answer that nobody reads has so long


class AnswerSettings(RedisSettings, EnvSettings):
    """How long answers live, and how many there may be."""

    answer_grace_seconds: float = Field(30, ge=0)
    answer_retention_seconds: float = Field(600, ge=0)
    answer_max_seconds: float = Field(600, gt=0)
    answer_drain_seconds: float = Field(60, ge=0)
    max_answers: int = Field(1000, gt=0)


class AnswerStore:
    of_one_process: ClassVar = False

    def __init__(self, settings: AnswerSettings, records: Records) -> None:
        self._settings = settings
        self._records = records
        self._here: dict[str, Answer] = {}  # those that run, and those whose end is not in Redis yet
        self._named: dict[Name, Answer] = {}
        self._locks: WeakValueDictionary[Name, asyncio.Lock] = WeakValueDictionary()
        self._writer = Writer(records, self._forget)
        self._mirrors = Mirrors(records)
        self._draining = False

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: AnswerSettings, times: Times | None = None) -> AsyncIterator["AnswerStore"]:
        async with connect(settings) as client:
            records = Records(client, settings.queue_name, settings.answer_retention_seconds, times or Times())
            store = cls(settings, records)
            async with store._writer.running(), store._mirrors.running():
                yield store

    async def find_or_reserve(
        self, asked: Asked, joins: Callable[[KnownAnswer], Awaitable[bool]]
    ) -> KnownAnswer | None:
        """Gives the answer of that name, if there is one and `joins` says that it will do. Else gives None. Then there
        is room for the new one: `add` it before anything is awaited.

        Raises Unavailable if there is no room, or if nobody can say whether an Idempotency-Key is in use.
        """
        if asked.name is None:
            return await self._find_or_reserve(asked, joins)
        async with self._locks.setdefault(asked.name, asyncio.Lock()):  # of two here, one would take the other for dead
            return await self._find_or_reserve(asked, joins)

    async def _find_or_reserve(
        self, asked: Asked, joins: Callable[[KnownAnswer], Awaitable[bool]]
    ) -> KnownAnswer | None:
        paid_twice = asked.name is not None and asked.name[0] == "key"
        seconds = CLAIM_SECONDS if paid_twice else WAIT_SECONDS
        instead_of = None
        try:
            while known := await self._taken_by(asked, instead_of, seconds):
                if await joins(known):
                    return known
                instead_of = known.id
        except Unavailable as error:
            if paid_twice or self._is_full():
                raise
            log.warning("answer %s begins without Redis, so it is only here for now: %s", asked.id, error)
        return None

    async def _taken_by(self, asked: Asked, instead_of: str | None, seconds: float) -> KnownAnswer | None:
        """The answer that has the name, but for `instead_of`. None: the name is that of `asked` now."""
        async with answering(seconds):
            while True:
                if asked.name and (here := self._named.get(asked.name)) and here.id != instead_of:
                    return here
                taken = await self._records.reserve(asked, instead_of, full=self._is_full())
                if taken is None:
                    self._writer.reserved.add(asked.id)
                    return None
                if taken == FULL:
                    raise Unavailable("too many answers at once")
                known = await self._known(taken)
                if isinstance(known, Mirror) and not known.begun:
                    if known.may_begin and known.look.holder != self._records.holder:
                        await asyncio.sleep(LOOK_SECONDS)  # another process is about to begin it
                        continue
                    known = None
                if known:
                    return known
                instead_of = taken  # it was never made, or is gone

    def add(self, answer: Answer) -> None:
        self._here[answer.id] = answer
        if answer.asked.name:
            self._named[answer.asked.name] = answer
        self._writer.add(answer)
        answer.run.closed.add_done_callback(lambda _: self._end(answer))

    async def get(self, answer_id: str, caller: str) -> KnownAnswer:
        """Raises NotFound if it is not known, not known any more, or another caller's, and Unavailable."""
        answer = None
        for pause in APPEARS_SECONDS:
            await asyncio.sleep(pause)
            if answer := await self._known(answer_id):
                break
        if answer is None or answer.asked.caller != caller:
            raise NotFound("no such answer")
        return answer

    async def named(self, name: Name) -> KnownAnswer | None:
        """Raises Unavailable."""
        if here := self._named.get(name):
            return here
        answer_id = await self._records.named(name)
        known = await self._known(answer_id) if answer_id else None
        return None if isinstance(known, Mirror) and not known.begun else known

    def running(self) -> list[Answer]:
        return [answer for answer in self._here.values() if answer.running]

    def drain(self) -> None:
        """For the end of the drain time. Answers that can be read elsewhere go on for a while; if this is called again,
        nobody waits for them any more."""
        if self._draining or not self._settings.answer_drain_seconds:
            self._lose_all()
            return
        self._draining = True
        asyncio.get_running_loop().call_later(self._settings.answer_drain_seconds, self._lose_all)
        for answer in self.running():
            if self._writer.is_shared(answer):
                answer.grace = min(answer.grace, UNREAD_SECONDS)
                with answer.reading():  # from now on
                    pass
            else:
                answer.lose()

    def check(self) -> str:
        """`ok`, or `degraded: ` and why."""
        if self._writer.trouble:
            return f"degraded: answers are only in the memory of this process: {self._writer.trouble}"
        return "degraded: too many answers at once" if self._is_full() else "ok"

    async def _known(self, answer_id: str) -> KnownAnswer | None:
        return self._here.get(answer_id) or await self._mirrors.get(answer_id)

    def _is_full(self) -> bool:
        used = self._mirrors.bytes + sum(answer.bytes for answer in self._here.values())
        return len(self.running()) >= self._settings.max_answers or used >= MAX_BYTES

    def _lose_all(self) -> None:
        for answer in self.running():
            answer.lose()

    def _end(self, answer: Answer) -> None:
        """Redis may be away for longer than the answer is kept."""
        asyncio.get_running_loop().call_later(self._records.kept, self._writer.forget, answer.id)

    def _forget(self, answer: Answer) -> None:
        del self._here[answer.id]
        if (name := answer.asked.name) and self._named.get(name) is answer:
            del self._named[name]

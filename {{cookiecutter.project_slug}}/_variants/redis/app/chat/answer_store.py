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
from secrets import token_hex
from typing import ClassVar
from weakref import WeakValueDictionary

from pydantic import Field

from app.chat.answer import Answer
from app.chat.answer_mirrors import Mirror, Mirrors
from app.chat.answer_records import FULL, Records, Times, words
from app.chat.answer_writer import Writer
from app.chat.answers_here import AnswersHere
from app.chat.known_answer import Asked, KnownAnswer, Name
from app.errors import NotFound, Unavailable
from app.redis_client import RedisSettings, StoreAway, answering, connect
from app.settings import EnvSettings

log = logging.getLogger(__name__)
Joins = Callable[[KnownAnswer], Awaitable[bool]]
MAX_BYTES = 256 * 1024 * 1024
CLAIM_SECONDS = 2.0  # for an Idempotency-Key: a second run of the same would be paid for
WAIT_SECONDS = 0.5  # else. Then the answer begins without Redis
APPEARS_SECONDS = (0.0, 0.1, 0.3, 0.6)  # an answer may be known to its caller a moment before it is in Redis
LOOK_SECONDS = 0.1  # from one look for it to the next
UNREAD_SECONDS = 5.0  # once the drain time is over, an answer that nobody reads goes on for so long


class AnswerSettings(RedisSettings, EnvSettings):
    """How long answers live, and how many there may be."""

    answer_grace_seconds: float = Field(30, ge=0)
    answer_retention_seconds: float = Field(600, ge=0)
    answer_max_seconds: float = Field(600, gt=0)
    answer_drain_seconds: float = Field(60, ge=0)
    max_answers: int = Field(1000, gt=0)


class AnswerStore:
    of_one_process: ClassVar = False

    def __init__(self, settings: AnswerSettings, requests: Records, ticks: Records) -> None:
        self._settings = settings
        self._records = requests
        self._here = AnswersHere()
        self._locks: WeakValueDictionary[Name, asyncio.Lock] = WeakValueDictionary()
        self._writer = Writer(ticks, self._here.forget)
        self._mirrors = Mirrors(requests, ticks)
        self._draining = False

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: AnswerSettings, times: Times | None = None) -> AsyncIterator["AnswerStore"]:
        holder, retention = token_hex(8), settings.answer_retention_seconds
        async with connect(settings) as client, connect(settings, connections=2) as other:
            store = cls(
                settings,
                *(Records(each, settings.queue_name, retention, times or Times(), holder) for each in (client, other)),
            )
            async with store._writer.running(), store._mirrors.running():
                yield store

    async def find_or_reserve(self, asked: Asked, joins: Joins) -> KnownAnswer | None:
        """Gives the answer of that name, if there is one and `joins` says that it will do. Else gives None. Then there
        is room for the new one: `add` it before anything is awaited.

        Raises Unavailable if there is no room, or if nobody can say whether an Idempotency-Key is in use.
        """
        if asked.name is None:
            return await self._find_or_begin_here(asked, joins)
        # One at a time: what this process has reserved, and not begun, is dead to the next who comes.
        lock = self._locks.setdefault(asked.name, asyncio.Lock())
        if asked.name[0] == "key":
            async with answering(CLAIM_SECONDS), lock:
                return await self._find(asked, joins, CLAIM_SECONDS)
        async with lock:
            return await self._find_or_begin_here(asked, joins)

    async def _find_or_begin_here(self, asked: Asked, joins: Joins) -> KnownAnswer | None:
        try:
            return await self._find(asked, joins, WAIT_SECONDS)
        except StoreAway as error:
            if self._is_full():
                raise
            log.warning("answer %s begins without Redis, so it is only here for now: %s", asked.id, words(error))
            return None

    async def _find(self, asked: Asked, joins: Joins, seconds: float) -> KnownAnswer | None:
        instead_of = None
        while known := await self._owner_of_name(asked, instead_of, seconds):
            if await joins(known):
                return known
            instead_of = known.id
        return None

    async def _owner_of_name(self, asked: Asked, instead_of: str | None, seconds: float) -> KnownAnswer | None:
        """The answer that has the name, unless that is `instead_of`. None: the name is that of `asked` now."""
        async with answering(seconds):
            while True:
                if (here := self._here.named(asked.name)) and here.id != instead_of:
                    return here
                owner = await self._records.reserve(asked, instead_of, full=self._is_full())
                if owner is None:
                    self._writer.reserved.add(asked.id)
                    return None
                if owner == FULL:
                    raise Unavailable("too many answers at once")
                known = await self._known(owner)
                if not isinstance(known, Mirror) or known.begun:
                    if known:
                        return known
                elif known.may_begin and known.look.holder != self._records.holder:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                instead_of = owner  # it is gone, or was never made: its process has had its time, or is this one

    def add(self, answer: Answer) -> None:
        self._here.add(answer)
        self._writer.add(answer)
        # Redis may be away for longer than the answer is kept.
        answer.run.closed.add_done_callback(
            lambda _: asyncio.get_running_loop().call_later(self._records.kept_ended, self._writer.forget, answer.id)
        )

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
        if here := self._here.named(name):
            return here
        answer_id = await self._records.named(name)
        known = await self._known(answer_id) if answer_id else None
        return None if isinstance(known, Mirror) and not (known.begun or known.may_begin) else known

    def running(self) -> list[Answer]:
        return self._here.running()

    def drain(self) -> None:
        """For the end of the drain time. Answers that can be read elsewhere go on for a while. If this is called again,
        somebody hurries, and they are lost."""
        if self._draining or not self._settings.answer_drain_seconds:
            self._here.lose_all()
            return
        self._draining = self._writer.draining = True
        asyncio.get_running_loop().call_later(self._settings.answer_drain_seconds, self._here.lose_all)
        for answer in self.running():
            if self._writer.is_shared(answer):
                answer.start_grace(UNREAD_SECONDS)
            else:
                answer.lose()

    async def check(self) -> str:
        """`ok`, or `degraded: ` and why. Never raises."""
        try:
            await self._records.check()
        except StoreAway as error:
            return f"degraded: answers are only in the memory of their processes: {words(error)}"
        return "degraded: too many answers at once" if self._is_full() else "ok"

    async def _known(self, answer_id: str) -> KnownAnswer | None:
        return self._here.get(answer_id) or await self._mirrors.get(answer_id)

    def _is_full(self) -> bool:
        ended = self._here.ended()  # they wait for Redis, if it is away
        while self._mirrors.bytes + self._here.bytes >= MAX_BYTES and ended:
            self._writer.forget(ended.pop(0).id)
        full = self._mirrors.bytes + self._here.bytes >= MAX_BYTES
        return full or len(self.running()) >= self._settings.max_answers

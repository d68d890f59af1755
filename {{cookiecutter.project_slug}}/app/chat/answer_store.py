"""Where answers are kept: in the memory of this process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from app.admission import ALL_ANSWERS, Admit, too_many_answers
from app.chat.answer import Answer
from app.chat.answer_settings import AnswerSettings
from app.chat.known_answer import Asked, KnownAnswer, Name
from app.errors import NotFound, Unavailable

Joins = Callable[[KnownAnswer], Awaitable[bool]]
"""Says whether the answer that has a name will do. It may stop it first."""
MAX_BYTES = 256 * 1024 * 1024  # of memory
log = logging.getLogger(__name__)


class AnswerStore:
    """Keeps answers while they run and for some time after, by id and by the names that callers have for them. One that
    has ended is kept until its time is over, or until space is needed."""

    def __init__(self, settings: AnswerSettings) -> None:
        self._settings = settings
        self._running: dict[str, Answer] = {}
        self._ended: dict[str, Answer] = {}  # those that ended first come first
        self._ended_bytes = 0
        self._forgetting: dict[str, asyncio.TimerHandle] = {}  # when the time of each of those is over
        self._named: dict[Name, Answer] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: AnswerSettings, processes: int = 1) -> AsyncIterator["AnswerStore"]:
        """`processes` is how many the server runs."""
        if processes > 1:
            log.warning(
                "%d processes serve, and each keeps its answers in its own memory: most of those who come back to an"
                " answer won't find it. README, section 'To come back to an answer'",
                processes,
            )
        yield cls(settings)

    async def find_or_reserve(
        self, asked: Asked, joins: Joins | None = None, admit: Admit | None = None
    ) -> KnownAnswer | None:
        """Gives the answer of that name, if there is one and `joins` says that it will do. Else gives None. Then there
        is space for the new one: `add` it before anything is awaited, or `give_back` the space.

        Raises Unavailable if there is no space, and TooMany if `admit` does, or too many of the caller's run.
        """
        passed = None  # the one that will not do
        while True:
            while asked.name and (known := self._named.get(asked.name)) and known is not passed:
                if joins and await joins(known):
                    return known
                passed = known
            self._forget_the_oldest()
            if self._is_full():
                raise Unavailable("too many answers at once", limit=ALL_ANSWERS)
            self._refuse_if_too_many(asked.caller)
            if admit is None:
                return None
            await admit(asked.caller)  # last, for it may count. Meanwhile others were served
            admit = None

    async def give_back(self, asked: Asked) -> None:
        """For an answer that is not added. Nothing is kept for it here."""

    def add(self, answer: Answer) -> None:
        self._running[answer.id] = answer
        if answer.asked.name:
            self._named[answer.asked.name] = answer
        answer.run.closed.add_done_callback(lambda _: self._end(answer))

    async def get(self, answer_id: str, caller: str) -> KnownAnswer:
        """Raises NotFound if it is not known, not known any more, or another caller's."""
        answer = self._running.get(answer_id) or self._ended.get(answer_id)
        if answer is None or answer.asked.caller != caller:
            raise NotFound("no such answer")
        return answer

    async def named(self, name: Name) -> KnownAnswer | None:
        return self._named.get(name)

    def running(self) -> list[Answer]:
        return list(self._running.values())

    def drain(self) -> None:
        """For the end of the drain time."""
        self.lose_all()

    def lose_all(self) -> None:
        for answer in self.running():
            answer.lose()

    async def check(self) -> str:
        """`ok`, or `degraded: ` and why. Never raises."""
        return "degraded: too many answers at once" if self._is_full() else "ok"

    def _refuse_if_too_many(self, caller: str) -> None:
        most = self._settings.max_answers_per_caller
        if most and sum(each.running for each in self._running.values() if each.asked.caller == caller) >= most:
            raise too_many_answers(most)

    def _is_full(self) -> bool:
        return len(self._running) >= self._settings.max_answers or self._bytes() >= MAX_BYTES

    def _bytes(self) -> int:
        return self._ended_bytes + self._bytes_of_running()

    def _bytes_of_running(self) -> int:
        return sum(answer.bytes for answer in self._running.values())

    def _end(self, answer: Answer) -> None:
        del self._running[answer.id]
        self._ended[answer.id] = answer
        self._ended_bytes += answer.bytes
        # By its id: a timer would hold the answer, and what is forgotten for want of space would not be free.
        seconds = self._settings.answer_retention_seconds
        self._forgetting[answer.id] = answer.call_later(seconds, self._forget, answer.id)
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        space = MAX_BYTES - self._bytes_of_running()  # counted once: there may be many small ones to forget
        while self._ended_bytes >= space and self._ended:
            self._forget(next(iter(self._ended)))

    def _forget(self, answer_id: str) -> None:
        answer = self._ended.pop(answer_id)
        self._ended_bytes -= answer.bytes
        self._forgetting.pop(answer_id).cancel()
        if (name := answer.asked.name) and self._named.get(name) is answer:
            del self._named[name]

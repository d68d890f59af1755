"""Where answers are kept: in the memory of this process."""

import asyncio
from collections.abc import Hashable

from app.chat.answer import Answer
from app.errors import NotFound, Unavailable

MAX_BYTES = 256 * 1024 * 1024


class AnswerStore:
    """Keeps answers while they run and for some time after, by id and by the names that callers have for them."""

    def __init__(self, most: int, seconds: float) -> None:
        """At `most` so many run at once. One that has ended is kept for so many `seconds`, or until room is needed."""
        self._most = most
        self._seconds = seconds
        self._running: dict[str, Answer] = {}
        self._ended: dict[str, Answer] = {}  # those that ended first come first
        self._ended_bytes = 0
        self._named: dict[Hashable, Answer] = {}

    def make_room(self) -> None:
        """For one more. Raises Unavailable if there is none."""
        self._forget_the_oldest()
        if len(self._running) >= self._most or self._bytes() >= MAX_BYTES:
            raise Unavailable("too many answers at once")

    def add(self, answer: Answer, name: Hashable = None) -> None:
        self._running[answer.id] = answer
        if name is not None:
            answer.name = name
            self._named[name] = answer
        answer.run.closed.add_done_callback(lambda _: self._end(answer))

    def get(self, answer_id: str, caller: str) -> Answer:
        """Raises NotFound if it is not known, not known any more, or another caller's."""
        answer = self._running.get(answer_id) or self._ended.get(answer_id)
        if answer is None or answer.caller != caller:
            raise NotFound("no such answer")
        return answer

    def named(self, name: Hashable) -> Answer | None:
        return self._named.get(name)

    def running(self) -> list[Answer]:
        return list(self._running.values())

    def _bytes(self) -> int:
        return self._ended_bytes + sum(answer.bytes for answer in self._running.values())

    def _end(self, answer: Answer) -> None:
        del self._running[answer.id]
        self._ended[answer.id] = answer
        self._ended_bytes += answer.bytes
        # By its id: a timer would hold the answer, and what is forgotten for want of room would not be free.
        asyncio.get_running_loop().call_later(self._seconds, self._forget, answer.id)
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        while self._bytes() >= MAX_BYTES and self._ended:
            self._forget(next(iter(self._ended)))

    def _forget(self, answer_id: str) -> None:
        if answer := self._ended.pop(answer_id, None):
            self._ended_bytes -= answer.bytes
            if self._named.get(answer.name) is answer:
                del self._named[answer.name]

"""Answers that are made in this process: those that run, and those whose end is not in Redis yet."""

from app.chat.answer import Answer
from app.chat.known_answer import Name


class AnswersHere:
    def __init__(self) -> None:
        self._known: dict[str, Answer] = {}
        self._named: dict[Name, Answer] = {}
        self._closing: set[Answer] = set()  # those that were ended elsewhere, while their models close

    @property
    def bytes(self) -> int:
        return sum(answer.bytes for answer in self._known.values())

    def add(self, answer: Answer) -> None:
        self._known[answer.id] = answer
        if answer.asked.name:
            self._named[answer.asked.name] = answer

    def get(self, answer_id: str) -> Answer | None:
        return self._known.get(answer_id)

    def named(self, name: Name | None) -> Answer | None:
        return self._named.get(name) if name else None

    def running(self) -> list[Answer]:
        return [answer for answer in (*self._known.values(), *self._closing) if answer.running]

    def running_of(self, caller: str) -> int:
        return sum(answer.asked.caller == caller for answer in self.running())

    def ended(self) -> list[Answer]:
        """Those that were asked first come first."""
        return [answer for answer in self._known.values() if not answer.running]

    def forget(self, answer: Answer) -> None:
        del self._known[answer.id]
        if answer.running:
            self._closing.add(answer)
            answer.run.closed.add_done_callback(lambda _: self._closing.discard(answer))
        if (name := answer.asked.name) and self._named.get(name) is answer:
            del self._named[name]

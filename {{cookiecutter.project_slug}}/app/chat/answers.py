"""Asks the model, and keeps what it answers for those who read it. ARCHITECTURE.md says who can end an answer."""

import asyncio
import logging
from collections.abc import Hashable, Sequence

from app.background import Background
from app.chat.answer import Answer
from app.chat.answer_store import AnswerStore
from app.chat.generation import Generation
from app.chat.providers.base import Message, Provider
from app.chat.settings import AnswerSettings
from app.chat.usage import record_usage
from app.digest import digest
from app.errors import Conflict, Unavailable
from app.settings import Settings
from app.shutdown import Shutdown

log = logging.getLogger(__name__)


class Answers:
    def __init__(self, provider: Provider, settings: Settings, times: AnswerSettings, shutdown: Shutdown) -> None:
        self._store = AnswerStore(times.max_answers, times.answer_retention_seconds)
        self._provider = provider
        self._settings = settings
        self._times = times
        self._shutdown = shutdown
        self._background = Background(shutdown)
        self._recording: set[asyncio.Task[None]] = set()

    def ask(self, messages: Sequence[Message], caller: str, *, key: str | None = None) -> Answer:
        """Two of one caller with the same `key` are one answer as long as it is kept: while it runs, and if it is whole
        or a caller has stopped it. After any other end, the second is asked anew. The last message is the question.

        Raises Conflict if the key came with another question, and Unavailable as `start` does.
        """
        if key is None:
            return self.start(messages, caller)
        name = ("key", caller, key)
        if known := self._store.named(name):
            if known.fingerprint != fingerprint_of(messages):
                raise Conflict("this Idempotency-Key came with another question")
            if known.can_be_joined:
                return known
            log.info("asked again, since the answer has failed", extra={"stream": known.id, "reason": known.reason})
        return self.start(messages, caller, name=name)

    def start(
        self,
        messages: Sequence[Message],
        caller: str,
        *,
        name: Hashable = None,
        fingerprint: str | None = None,
        grace: float | None = None,
    ) -> Answer:
        """Asks the model. The answer can be found by its `name`. `fingerprint` is that of the question, by default of
        all messages. `grace` is in seconds, by default that of the settings.

        Raises Unavailable if too many answers run, or the drain time is over.
        """
        if self._shutdown.expired:  # nobody would end it any more
            raise Unavailable("the server is going down")
        self._store.make_room()
        # If an answer failed before its first word, a client's history has it as blank text. Models refuse that.
        *before, last = messages
        spoken = [*(message for message in before if message.content.strip()), last]
        seconds, max_chars = self._settings.model_timeout_seconds, self._settings.max_answer_chars
        answer = Answer(
            Generation(self._provider, spoken, seconds=seconds, max_chars=max_chars),
            caller,
            fingerprint=fingerprint or fingerprint_of(messages),
            grace=self._times.answer_grace_seconds if grace is None else grace,
            longest=self._times.answer_max_seconds,
        )
        self._store.add(answer, name)
        answer.run.closed.add_done_callback(lambda _: self._record(answer))
        return answer

    def get(self, answer_id: str, caller: str) -> Answer:
        """Raises NotFound if it is not known, not known any more, or another caller's."""
        return self._store.get(answer_id, caller)

    def named(self, name: Hashable) -> Answer | None:
        """The last answer that was started with this name, if it is still known. A name begins with its kind and the
        caller, for it is the caller's own."""
        return self._store.named(name)

    def lose_all(self) -> None:
        for answer in self._store.running():
            answer.lose()

    async def close(self) -> None:
        """Waits until all answers have ended and are recorded. It ends none: `lose_all` does."""
        while waits := {*(answer.run.closed for answer in self._store.running()), *self._recording}:
            await asyncio.wait(waits)

    def _record(self, answer: Answer) -> None:
        recording = asyncio.create_task(self._background.run(record_usage, answer))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)


def fingerprint_of(messages: Sequence[Message]) -> str:
    return digest(*(message.model_dump() for message in messages))

"""Asks the model, and keeps what it answers for those who read it. ARCHITECTURE.md says who can end an answer."""

import asyncio
import logging
from collections.abc import Sequence

from app import telemetry
from app.admission import Admit
from app.background import Background
from app.chat.answer import Answer
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_store import AnswerStore, Joins
from app.chat.generation import Generation
from app.chat.known_answer import KEY, Asked, KnownAnswer, Name
from app.chat.providers.base import Message, Provider
from app.chat.usage import record_usage
from app.digest import digest
from app.errors import Conflict, Unavailable
from app.settings import Settings
from app.shutdown import Shutdown

log = logging.getLogger(__name__)


class Answers:
    def __init__(
        self,
        store: AnswerStore,
        provider: Provider,
        settings: Settings,
        answer_settings: AnswerSettings,
        shutdown: Shutdown,
        admit: Admit | None = None,
    ) -> None:
        """Asks `admit` before the model is asked."""
        self._store = store
        self._provider = provider
        self._settings = settings
        self._grace, self._longest = answer_settings.answer_grace_seconds, answer_settings.answer_max_seconds
        self._shutdown = shutdown
        self._admit = admit
        self._background = Background(shutdown)
        self._recording: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many are made at this moment, in this process."""
        return len(self._store.running())

    async def ask(self, messages: Sequence[Message], caller: str, *, key: str | None = None) -> KnownAnswer:
        """The last message is the question. Two of one caller with the same `key` get one answer while it runs, and as
        long as it is kept if it is whole or a caller has stopped it. After any other end, the second is asked anew.

        Raises Conflict if the key came with another question, and what `find_or_start` does.
        """
        if key is None:
            return await self.start(messages, caller)
        fingerprint = fingerprint_of(messages)

        async def joins(known: KnownAnswer) -> bool:
            if known.asked.fingerprint != fingerprint:
                raise Conflict("this Idempotency-Key came with another question")
            if not known.can_be_joined:
                log.info("asked again, since the answer has failed", extra={"stream": known.id, "reason": known.reason})
            return known.can_be_joined

        return await self.find_or_start(messages, caller, (KEY, caller, key), fingerprint, joins)

    async def find_or_start(
        self, messages: Sequence[Message], caller: str, name: Name, fingerprint: str, joins: Joins
    ) -> KnownAnswer:
        """Gives the last answer of that name, if it is still known and `joins` says that it will do. Else asks the
        model, and the name is the new answer's. `fingerprint` is that of the question.

        Raises what `start` does, and Unavailable also if nobody can say which answer has the name.
        """
        self._refuse_if_late()
        generation = self._generation(messages, caller, digest(*name, fingerprint))
        asked = Asked(generation.id, caller, fingerprint, name)
        if known := await self._store.find_or_reserve(asked, joins, self._admit):
            telemetry.reader_came_back()
            return known
        return await self._run(generation, asked, self._grace)

    async def start(self, messages: Sequence[Message], caller: str, *, grace: float | None = None) -> Answer:
        """Asks the model. `grace` is in seconds, by default that of the settings.

        Raises Unavailable if too many run, or the drain time is over, and TooMany if the caller may begin no more now.
        """
        self._refuse_if_late()
        generation = self._generation(messages, caller)
        asked = Asked(generation.id, caller, fingerprint_of(messages))
        await self._store.find_or_reserve(asked, admit=self._admit)
        return await self._run(generation, asked, self._grace if grace is None else grace)

    async def get(self, answer_id: str, caller: str) -> KnownAnswer:
        """Raises NotFound if it is not known (any more), or another caller's, and Unavailable if nobody can say so."""
        return await self._store.get(answer_id, caller)

    async def named(self, name: Name) -> KnownAnswer | None:
        """The last answer that was started with this name, if it is still known. Raises Unavailable as `get` does."""
        return await self._store.named(name)

    async def check(self) -> str:
        """Whether answers can be kept: `ok`, or `degraded: ` and why."""
        return await self._store.check()

    def drain(self) -> None:
        """Is called when the drain time is over. The store says which answers end then."""
        self._store.drain()

    def lose_all(self) -> None:
        self._store.lose_all()

    async def close(self) -> None:
        """Waits until all answers have ended and are recorded. It ends none: `drain` and `lose_all` do."""
        while waits := {*(answer.run.closed for answer in self._store.running()), *self._recording}:
            await asyncio.wait(waits)

    def _refuse_if_late(self) -> None:
        if self._shutdown.expired:  # nobody would end an answer any more
            raise Unavailable("the server is going down")

    def _generation(self, messages: Sequence[Message], caller: str, key: str | None = None) -> Generation:
        # If an answer failed before its first word, a client's history has it as blank text. Models refuse that.
        *before, last = messages
        spoken = [*(message for message in before if message.content.strip()), last]
        seconds, max_chars = self._settings.model_timeout_seconds, self._settings.max_answer_chars
        shows = self._settings.show_reasoning
        return Generation(
            self._provider, spoken, caller=caller, key=key, seconds=seconds, max_chars=max_chars, show_reasoning=shows
        )

    async def _run(self, generation: Generation, asked: Asked, grace: float) -> Answer:
        if self._shutdown.expired:  # that may have taken a while
            await self._store.give_back(asked)
        self._refuse_if_late()
        answer = Answer(generation, asked, grace=grace, longest=self._longest)
        self._store.add(answer)
        answer.run.closed.add_done_callback(lambda _: self._record(answer))
        return answer

    def _record(self, answer: Answer) -> None:
        recording = asyncio.create_task(self._background.run(record_usage, answer))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)


def fingerprint_of(messages: Sequence[Message]) -> str:
    return digest(*(message.model_dump() for message in messages))

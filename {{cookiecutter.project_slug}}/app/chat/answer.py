"""An answer that is made here: a model's run writes its log, and any number of readers read it.

Nothing of it belongs to the request that asked for it. That request's connection and its dependencies with `yield` may
be gone while the model still runs. Only the request id and the caller go along.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.chat.generation import Generation
from app.chat.known_answer import Asked, KnownAnswer
from app.logs import request_id
from app.streams.events import Done, Error
from app.streams.source import Run

LOST = "producer_lost"


class Answer(KnownAnswer):
    def __init__(self, generation: Generation, asked: Asked, *, grace: float, longest: float) -> None:
        """It is stopped when nobody has read it for `grace`, and ended after `longest`, both in seconds."""
        super().__init__(asked, grace)
        self.generation = generation
        self.run = Run(generation.events(), self.log, generation.time_left, generation.told.context)
        self._request_id = request_id.get()
        self._unread = self.call_later(self.unread_in, self._stop_if_unread)
        self._longest = self.call_later(longest, self._too_long)
        self.run.closed.add_done_callback(self._cancel_timers)

    @property
    def bytes(self) -> int:
        return super().bytes + (self.generation.question_bytes if self.running else 0)

    @property
    def reason(self) -> str | None:
        return next((event.reason for event in self.run.last or () if isinstance(event, Done)), None)

    @property
    def error_code(self) -> str | None:
        """That of its `error`, if it has one."""
        return next((event.code for event in self.run.last or () if isinstance(event, Error)), None)

    @property
    def outcome(self) -> str:
        """How it has ended, in a word that says more than its `reason`: `end`, `length`, `refusal`, `error` or
        `timeout`; `stopped` by a caller; `abandoned` by all its readers; `lost` with this process; or `elsewhere`, if
        another process has ended it and tells of that."""
        if self.log.was_cut:
            return "elsewhere"
        if self.error_code == LOST:
            return "lost"
        if self.reason == "cancelled":
            return "stopped" if self.stopped else "abandoned"
        return self.reason or "error"

    @contextmanager
    def reading(self) -> Iterator[None]:
        try:
            with super().reading():
                yield
        finally:
            self._stop_if_unread()

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """As the loop's own, but in the context of the answer. Else a timer would keep what there is of the request, or
        of a reader's, for as long as the answer is kept."""
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, callback, *arguments, context=self.generation.told.context)

    async def stop(self) -> None:
        if self.reason is None:
            self.stopped = True
            self.run.stop(Done("cancelled"))

    def lose(self) -> None:
        """Ends it because this process ends. Its log never says `shutdown`, for that tells a reader to come back."""
        self._give_up(LOST, "The server was restarted before the answer was whole.", "error")

    def _stop_if_unread(self) -> None:
        self._unread.cancel()
        if self._readers or not self.running:
            return
        if (seconds := self.unread_in) > 0:
            self._unread = self.call_later(seconds, self._stop_if_unread)
        else:
            self.run.stop(Done("cancelled"))

    def _too_long(self) -> None:
        self._give_up("model_timeout", "The answer took too long.", "timeout")

    def _give_up(self, code: str, message: str, reason: str) -> None:
        self.run.stop(Error(code, message, True, self._request_id), Done(reason))

    def _cancel_timers(self, _: object) -> None:
        self._unread.cancel()
        self._longest.cancel()

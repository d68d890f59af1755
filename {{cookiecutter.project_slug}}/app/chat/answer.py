"""An answer: a model's run writes its log, and any number of readers read it.

Nothing of it belongs to the request that asked for it. That request's connection and its dependencies with `yield` may
be gone while the model still runs. Only the request id and the caller go along.
"""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from app.chat.generation import Generation
from app.logs import request_id
from app.streams.events import Done, Error
from app.streams.log import MemoryLog
from app.streams.source import Run

WHOLE = {"end", "length", "refusal"}
FIRST_READER_SECONDS = 1.0  # who asked, or has found it, has this time at least to begin to read
ANSWER_BYTES = 6000  # about, without its question and its events


class Answer:
    def __init__(self, generation: Generation, caller: str, *, fingerprint: str, grace: float, longest: float) -> None:
        """It is stopped when nobody has read it for `grace`, and ended after `longest`, both in seconds. The
        `fingerprint` is that of the question."""
        self.id = generation.id
        self.caller = caller
        self.fingerprint = fingerprint
        self.generation = generation
        self.name: Hashable = None  # by which its caller knows it, too
        self.log = MemoryLog()
        self.run = Run(generation.events(), self.log, generation.time_left)
        self.stopped = False  # by a caller, not by time or for want of readers
        self._request_id = request_id.get()
        self._grace = grace
        self._readers = 0
        self._leave = self._leave_after(max(grace, FIRST_READER_SECONDS))
        self._longest = asyncio.get_running_loop().call_later(longest, self._too_long)
        self.run.closed.add_done_callback(self._cancel_timers)

    @property
    def running(self) -> bool:
        return not self.run.closed.done()

    @property
    def bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return ANSWER_BYTES + self.log.bytes + (self.generation.question_bytes if self.running else 0)

    @property
    def reason(self) -> str | None:
        """Why it ends, as soon as that is known: its model may have to close yet. None before."""
        return self.run.last.reason if isinstance(self.run.last, Done) else None

    @property
    def whole(self) -> bool:
        """Whether the model came to its end."""
        return self.reason in WHOLE

    @property
    def can_be_joined(self) -> bool:
        """Whether it is the answer to a question that is asked again. One that failed, or is about to, is not."""
        return self.reason is None or self.whole or self.stopped

    @property
    def seconds_to_first_piece(self) -> float | None:
        started, first = self.generation.started, self.generation.first_piece
        return None if started is None or first is None else first - started

    def expect_reader(self) -> None:
        """For whoever has just found it: it is not stopped before that one begins to read."""
        if not self._readers and self.running:
            self._leave.cancel()
            self._leave = self._leave_after(max(self._grace, FIRST_READER_SECONDS))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """For each reader: while the block runs, the answer is not stopped for want of readers."""
        self._leave.cancel()
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers and self.running:
                if self._grace:
                    self._leave = self._leave_after(self._grace)
                else:
                    self._left()

    def stop(self) -> None:
        """Ends it for all of its readers. They get what was made, and `done` for `cancelled`."""
        if self.reason is None:
            self.stopped = True
            self.run.stop(Done("cancelled"))

    def lose(self) -> None:
        """Ends it because this process ends. Its log never says `shutdown`, for that tells a reader to come back."""
        self._give_up("producer_lost", "The server was restarted before the answer was whole.", "error")

    def _leave_after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._left)

    def _left(self) -> None:
        self.run.stop(Done("cancelled"))

    def _too_long(self) -> None:
        self._give_up("model_timeout", "The answer took too long.", "timeout")

    def _give_up(self, code: str, message: str, reason: str) -> None:
        self.run.stop(Error(code, message, True, self._request_id), Done(reason))

    def _cancel_timers(self, _: object) -> None:
        self._leave.cancel()
        self._longest.cancel()

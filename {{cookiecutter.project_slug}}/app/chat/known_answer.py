"""An answer as its readers know it: what routes and front ends may ask of one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from time import monotonic

from app.streams.events import StreamFault
from app.streams.log import MemoryLog

WHOLE = {"end", "length", "refusal"}
FIRST_READER_SECONDS = 1.0  # who asked, or has found it, has this time at least to begin to read
ANSWER_BYTES = 6000  # about, without its question and its events

KEY = "key"  # the kind of name that an Idempotency-Key is
Name = tuple[str, str, str]
"""By which a caller knows an answer, besides its id: the kind of name, the caller, and the caller's own text."""


@dataclass(frozen=True)
class Asked:
    """What an answer is found by. The `fingerprint` is that of its question."""

    id: str
    caller: str
    fingerprint: str
    name: Name | None = None


class KnownAnswer:
    def __init__(self, asked: Asked, grace: float) -> None:
        """It is not needed any more when nobody has read it for `grace`, in seconds."""
        self.asked = asked
        self.grace = grace
        self.log = MemoryLog()
        self.stopped = False  # by a caller, not by time or for want of readers
        self.read_until = 0.0  # of `time.monotonic`
        self._readers = 0
        self._expected_until = 0.0
        self.expect_reader()

    @property
    def id(self) -> str:
        return self.asked.id

    @property
    def running(self) -> bool:
        """Whether its log has no end yet. `reason` may be known before, while the model closes."""
        return self.log.end is None

    @property
    def reason(self) -> str | None:
        """Why it ends, as soon as that is known. None before."""
        return self.log.end.reason if self.log.end else None

    @property
    def whole(self) -> bool:
        """Whether the model came to its end."""
        return self.reason in WHOLE

    @property
    def can_be_joined(self) -> bool:
        """Whether it is the answer to a question that is asked again. One that failed, or is about to, is not."""
        return self.reason is None or self.whole or self.stopped

    def goes_on_at(self, place: int) -> int | None:
        """Where a client reads on that has read up to `place`. None if it has read all."""
        if self.log.end and place > len(self.log):
            return self.log.end_place
        return None if self.log.end and place == len(self.log) else place

    @property
    def bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return ANSWER_BYTES + self.log.bytes

    @property
    def unread_in(self) -> float:
        """Seconds until nobody has read it for `grace`. Infinite while somebody does."""
        return inf if self._readers else max(self.read_until + self.grace, self._expected_until) - monotonic()

    def expect_reader(self) -> None:
        """For whoever has found it: it counts as read until that one has had time to begin."""
        self._expected_until = monotonic() + max(self.grace, FIRST_READER_SECONDS)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """For each reader: while the block runs, the answer is read."""
        self._readers += 1
        self._expected_until = 0.0
        try:
            yield
        finally:
            self._readers -= 1
            self.read_until = max(self.read_until, monotonic())

    async def stop(self) -> None:
        """Ends it for all of its readers. They get what was made, and `done` for `cancelled`."""
        raise NotImplementedError

    async def ended(self) -> None:
        """Returns when it has ended, and its model has closed."""
        with self.reading(), suppress(StreamFault):
            while await self.log.after(len(self.log), seconds=60) is not None:
                pass

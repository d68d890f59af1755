"""An answer that another process writes, as those who read it here know it: what they share is a mirror of its log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from app.chat.answer_calls import Look
from app.chat.answer_events import load
from app.chat.answer_records import PRODUCER_LOST, Records
from app.chat.known_answer import Asked, KnownAnswer

KEPT_SECONDS = 1.0  # without a reader


class Mirror(KnownAnswer):
    """`complete` is true when Redis has no more for it. It then has its end, or was cut."""

    def __init__(self, answer_id: str, records: Records, look: Look, follow: Callable[["Mirror"], None]) -> None:
        """Calls `follow` when somebody reads it."""
        super().__init__(Asked(answer_id, look.caller, look.fingerprint), KEPT_SECONDS)
        self.complete = False
        self.stamped = monotonic()
        self.look = look  # the last one
        self._records = records
        self._follow = follow
        self._missing_since: float | None = None
        self.update(look)

    @property
    def begun(self) -> bool:
        """Whether the process that has reserved it has written something."""
        return len(self.log) > 0

    @property
    def may_begin(self) -> bool:
        """Whether that process has time left, and has not given it back."""
        return self.look.left > 0 and self._missing_since is None

    def goes_on_at(self, place: int) -> int | None:
        """If a reader has written the end, the process that is gone may have sent other events at the same places. So
        whoever has read past the place where that end begins gets all of it, even if its places are read already."""
        ended_by_a_reader = self.log.end and not self.look.holder
        if ended_by_a_reader and place > self.log.end_place:
            return self.log.end_place
        return super().goes_on_at(place)

    @property
    def usable(self) -> bool:
        """Whether a reader gets an end from it."""
        return self.log.end is not None or not self.complete

    @contextmanager
    def reading(self) -> Iterator[None]:
        with super().reading():
            self._follow(self)
            yield

    async def stop(self) -> None:
        await self._records.stop(self.id)

    def update(self, look: Look) -> None:
        self._missing_since = None
        self.look = look
        self.log.append(*map(load, look.events))
        self.stopped = bool(look.stop) and self.reason in (None, "cancelled")
        if self.log.end or (look.ended and look.length <= len(self.log)):
            self.complete = True  # whatever stands behind the end: a log takes no more
            if not self.log.end:  # Redis has lost a part that was read here, and the end is before it
                self.log.cut()

    def miss(self) -> None:
        """Redis has lost its data. The writer writes it anew within a lease, if there still is one."""
        self._missing_since = self._missing_since or monotonic()
        if monotonic() - self._missing_since >= self._records.times.lease:
            self.log.append(*PRODUCER_LOST)
            self.complete = True

    def redis_is_away(self) -> None:
        """Such time does not count: the writer could not write either."""
        self._missing_since = None

    def give_up(self) -> None:
        self.complete = True
        self.log.cut()

"""How many streams are open: all those of this process, and those of each caller."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import TooMany, Unavailable

ENDS_SECONDS = 0.1  # for a stream whose answer has ended


class Places:
    """Each open stream holds one. The place of an event in a log is something else."""

    def __init__(self, most: int, per_caller: int) -> None:
        """With a `per_caller` of 0, a caller may have them all."""
        self._most = most
        self._per_caller = per_caller
        self._of: Counter[str] = Counter()
        self.taken = 0

    @property
    def limits_callers(self) -> bool:
        return self._per_caller > 0

    @contextmanager
    def take(self, caller: str, *, comes_back: bool = False) -> Iterator[None]:
        """Holds a place. Raises Unavailable if all are taken, and TooMany if the caller has as many as it may.

        Who has lost a connection often comes back before we know of that, and the lost one still holds its place. So
        with `comes_back` the caller may have twice as many, but no new answer: see `admit`.
        """
        if self.taken >= self._most:
            raise Unavailable("too many streams at once", limit="all streams")
        self._refuse(caller, self._of[caller] >= self._per_caller * (1 + comes_back))
        self.taken += 1
        self._of[caller] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._of[caller] -= 1
            if not self._of[caller]:
                del self._of[caller]

    async def admit(self, caller: str) -> None:
        """Is asked before the model is. Raises TooMany if the caller has more streams than it may, also a moment later:
        one may be about to end, as that of an answer which was stopped for the next one."""
        if self.limits_callers and self._of[caller] > self._per_caller:
            await asyncio.sleep(ENDS_SECONDS)
        self._refuse(caller, self._of[caller] > self._per_caller)

    def _refuse(self, caller: str, has_too_many: bool) -> None:
        if self.limits_callers and has_too_many:
            words = "too many streams at once: try again when one has ended"
            raise TooMany(words, limit="streams", quota=self._per_caller)

"""Lets only a few of one caller's questions ask Redis at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from weakref import WeakValueDictionary

from app.redis_client import CONNECTIONS, StoreAway, answering

AT_ONCE = CONNECTIONS // 2


class Turns:
    """A thousand at once would wait for a connection, each behind all before it. Redis would seem to be away, and each
    process would begin as many answers as the caller may have in all."""

    def __init__(self) -> None:
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._away_at = 0.0

    @asynccontextmanager
    async def of(self, caller: str, seconds: float) -> AsyncIterator[None]:
        """Raises StoreAway if Redis has not answered after so many seconds. Whoever waited for a turn meanwhile gets it
        at once: all questions may be one caller's, and would wait for Redis one behind the other."""
        came, turn = monotonic(), self._of.setdefault(caller, asyncio.Semaphore(AT_ONCE))
        async with turn:
            if self._away_at > came:
                raise StoreAway("the store does not answer")
            try:
                async with answering(seconds):
                    yield
            except StoreAway:
                self._away_at = monotonic()
                raise

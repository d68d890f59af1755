"""Where it is counted what callers begin: in Redis, for all processes. While that is away, each counts alone.

Every key begins with NAME:limits, the queue's name before it, and has a digest of the caller's name. It expires two
minutes after its last use. The script that counts takes its times from Redis alone.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from limits.aio.storage import MemoryStorage, RedisStorage

from app.admission import Admit
from app.errors import TooMany
from app.limits.rate import Rate
from app.limits.settings import LimitSettings
from app.redis_client import StoreAway, answering, connect, words

log = logging.getLogger(__name__)
# Shorter than that of others who ask Redis: a question waits for this, and one that is counted here alone does no harm.
ANSWER_SECONDS = 0.3
AWAY_SECONDS = 5.0  # after which a Redis that was away is asked again, for one question


class Turn:
    """What the requests share by which one caller asks right now."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.refusal: TooMany | None = None
        self.refused_at = 0.0


class SharedRate:
    def __init__(self, shared: Rate, alone: Rate) -> None:
        self._shared = shared
        self._alone = alone
        self._refused = ""  # the words of Redis, while it is away
        self._asked_at = 0.0
        self._turns: WeakValueDictionary[str, Turn] = WeakValueDictionary()  # of callers who ask right now

    async def admit(self, caller: str) -> None:
        """Asks for one request of a caller at a time. A thousand at once would wait for a connection, one behind the
        other, and that would look like a Redis that is away: then they would be counted here alone, and the caller
        could begin as many again. Requests that wait while one is refused are refused with it."""
        came, turn = monotonic(), self._turns.setdefault(caller, Turn())
        async with turn.lock:
            if turn.refusal and turn.refused_at > came:
                raise turn.refusal.with_traceback(None)
            try:
                await self._admit(caller)
            except TooMany as error:
                turn.refusal, turn.refused_at = error, monotonic()
                raise

    async def _admit(self, caller: str) -> None:
        if self._refused and monotonic() - self._asked_at < AWAY_SECONDS:
            await self._alone.admit(caller)
            return
        self._asked_at = monotonic()
        try:
            async with answering(ANSWER_SECONDS):
                await self._shared.admit(caller)
        except TooMany:
            self._is_there()
            raise
        except StoreAway as error:
            self._is_away(words(error))
            await self._alone.admit(caller)
        else:
            self._is_there()
            with suppress(TooMany):  # in case Redis is away next: nobody begins anew then
                await self._alone.admit(caller)

    def _is_away(self, refused: str) -> None:
        if not self._refused:
            log.warning("each process counts alone what callers begin, for Redis does not for now: %s", refused)
        self._refused = refused

    def _is_there(self) -> None:
        if self._refused:
            log.info("what callers begin is counted in Redis again")
        self._refused = ""


@asynccontextmanager
async def open_rate(settings: LimitSettings, processes: int = 1) -> AsyncIterator[Admit]:
    """`processes` changes nothing: all of them count in the same Redis."""
    async with connect(settings, connections=2) as client:
        options: dict[str, Any] = {"connection_pool": client.connection_pool}  # the library says it takes only texts
        prefix = f"{settings.queue_name}:limits"
        storage = RedisStorage("redis://", implementation="redispy", key_prefix=prefix, **options)
        per_minute = settings.requests_per_minute
        yield SharedRate(Rate(storage, per_minute), Rate(MemoryStorage(), per_minute)).admit

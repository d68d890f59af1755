"""How many answers and jobs a caller may begin in a minute."""

from math import floor

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.digest import digest
from app.errors import TooMany

SECONDS = 60


class Rate:
    """Counts in a window of a minute that slides: what was begun in the minute before the running one counts less, the
    longer ago that was."""

    def __init__(self, storage: MemoryStorage | RedisStorage, per_minute: int) -> None:
        self._storage = storage
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._limit = RateLimitItemPerMinute(per_minute, namespace="begun")

    async def admit(self, caller: str) -> None:
        """Counts one more. Raises TooMany, and counts nothing, if that is more than the caller may have."""
        key = digest(caller)
        if await self._limiter.hit(self._limit, key):
            return
        seconds = await self._seconds_until_one_more(key)
        if seconds > SECONDS:  # the clock was set back: by an hour, say, and the caller would wait for that long
            await self._limiter.clear(self._limit, key)
            await self._limiter.hit(self._limit, key)
            return
        most, again_in = self._limit.amount, min(floor(seconds) + 1, SECONDS)
        words = f"only {most} answers and jobs may begin in a minute: try again in {again_in} s"
        raise TooMany(words, limit="requests", quota=most, per=f"w={SECONDS}", seconds=again_in)

    async def _seconds_until_one_more(self, key: str) -> float:
        before, fades_in, now, window = await self._storage.get_sliding_window(self._limit.key_for(key), SECONDS)
        if now >= self._limit.amount:
            return window - SECONDS  # then these begin to fade
        return max(0.0, fades_in - SECONDS * (self._limit.amount - now) / before) if before else 0.0

"""Where what callers begin is counted in tests: the Redis of the answers."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from pydantic import RedisDsn

from app.limits import counting
from app.limits.settings import LimitSettings
from app.redis_client import connect

ANSWER_SECONDS = counting.ANSWER_SECONDS
SCANNED = 10_000  # keys at a time: other tests leave many of theirs


@pytest.fixture(scope="session")
def limit_settings(redis_url: str) -> Callable[[int], LimitSettings]:
    """`limit_settings(requests_per_minute)`, of which nothing is counted yet: its keys have a name of their own."""

    def settings(per_minute: int) -> LimitSettings:
        own: dict[str, Any] = {"redis_url": RedisDsn(redis_url), "queue_name": f"test-{uuid4().hex[:8]}"}
        return LimitSettings(_env_file=None, requests_per_minute=per_minute, **own)

    return settings


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Redis may answer late, and is not away."""
    monkeypatch.setattr(counting, "ANSWER_SECONDS", 60.0)


@pytest.fixture
def pass_time() -> Callable[[LimitSettings, float], Awaitable[None]]:
    """`await pass_time(settings, seconds)`. Below 0 the clock of Redis is set back. Only the time that is left of its
    keys shows that."""

    async def pass_time(settings: LimitSettings, seconds: float) -> None:
        async with connect(settings) as redis:
            async for key in redis.scan_iter(f"{settings.queue_name}:*", SCANNED):
                await redis.pexpire(key, await redis.pttl(key) - round(1000 * seconds))

    return pass_time

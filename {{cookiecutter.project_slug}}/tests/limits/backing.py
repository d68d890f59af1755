"""Where what callers begin is counted in tests: in memory, as in the service."""

import time
from collections.abc import Awaitable, Callable

import pytest

from app.limits.settings import LimitSettings


@pytest.fixture(scope="session")
def limit_settings() -> Callable[[int], LimitSettings]:
    """`limit_settings(requests_per_minute)`, of which nothing is counted yet."""
    return lambda per_minute: LimitSettings(_env_file=None, requests_per_minute=per_minute)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[LimitSettings, float], Awaitable[None]]:
    """`await pass_time(settings, seconds)`. Below 0 the clock is set back."""
    ahead = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)

    async def pass_time(_: LimitSettings, seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    return pass_time

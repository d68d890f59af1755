"""How many answers and jobs a caller may begin in a minute, wherever that is counted."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from app.admission import Admit
from app.errors import TooMany
from app.limits.counting import open_rate
from app.limits.settings import LimitSettings

Limits = Callable[[int], LimitSettings]
PassTime = Callable[[LimitSettings, float], Awaitable[None]]


async def refusal(admit: Admit, caller: str = "me") -> TooMany:
    with pytest.raises(TooMany) as refused:
        await admit(caller)
    return refused.value


async def use_up(admit: Admit) -> TooMany:
    """Begins as many as may be."""
    for _ in range(1000):
        try:
            await admit("me")
        except TooMany as refused:
            return refused
    raise AssertionError("nothing is refused")


async def test_so_many_and_each_caller_has_its_own(limit_settings: Limits) -> None:
    async with open_rate(limit_settings(3)) as admit:
        for _ in range(3):
            await admit("me")
        error = await refusal(admit)
        assert error.headers["RateLimit-Policy"] == '"requests";q=3;w=60'
        assert error.headers["RateLimit"] == f'"requests";r=0;t={error.headers["Retry-After"]}'
        assert f"try again in {error.headers['Retry-After']} s" in str(error)
        await admit("you")


@pytest.mark.parametrize("most", [1, 2, 7, 60, 150])
@pytest.mark.parametrize("pauses", [[0], [20], [59], [61], [0, 30], [45, 50, 7]])
async def test_who_waits_as_long_as_is_said_is_let_in(
    limit_settings: Limits, pass_time: PassTime, most: int, pauses: list[float]
) -> None:
    """And not much earlier: whatever was begun before."""
    settings = limit_settings(most)
    async with open_rate(settings) as admit:
        for pause in pauses:
            with suppress(TooMany):
                await admit("me")
            await pass_time(settings, pause)
        for _ in range(5):
            seconds = int((await use_up(admit)).headers["Retry-After"])
            assert 1 <= seconds <= 60
            if seconds > 2:
                await pass_time(settings, seconds - 2)
                await refusal(admit)
                seconds = 2
            await pass_time(settings, seconds)
            await admit("me")


@pytest.mark.parametrize("seconds", [3600, -3600, 86_400, -86_400])
async def test_a_clock_that_jumps_shuts_nobody_out(limit_settings: Limits, pass_time: PassTime, seconds: float) -> None:
    settings = limit_settings(3)
    async with open_rate(settings) as admit:
        await use_up(admit)
        await pass_time(settings, seconds)
        await admit("me")
        await use_up(admit)
        assert int((await refusal(admit)).headers["Retry-After"]) <= 60

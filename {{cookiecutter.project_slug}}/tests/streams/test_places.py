from contextlib import ExitStack

import pytest

from app.errors import TooMany, Unavailable
from app.streams.places import Places


async def test_beyond_all_places_nobody_gets_one_and_who_leaves_makes_way() -> None:
    places = Places(2, 0)
    with places.take("a"):
        with places.take("a"), pytest.raises(Unavailable), places.take("b", comes_back=True):
            pass
        with places.take("b"):
            assert places.taken == 2
    assert places.taken == 0


async def test_a_caller_has_its_own_limit() -> None:
    places = Places(10, 2)
    with places.take("a"), places.take("a"):
        with pytest.raises(TooMany) as refusal, places.take("a"):
            pass
        with places.take("b"):
            assert places.taken == 3
    assert refusal.value.headers == {
        "Retry-After": "2",
        "RateLimit-Policy": '"streams";q=2;qu="concurrent-requests"',
        "RateLimit": '"streams";r=0;t=2',
    }


async def test_who_comes_back_may_have_twice_as_many_but_asks_nothing_new() -> None:
    """A connection that it has lost may have its place still."""
    places = Places(10, 2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(places.take("a"))
        await places.admit("a")
        for _ in range(2):
            stack.enter_context(places.take("a", comes_back=True))
        with pytest.raises(TooMany):
            await places.admit("a")
        with pytest.raises(TooMany), places.take("a", comes_back=True):
            pass
        await places.admit("b")
    assert places.taken == 0
    await places.admit("a")


async def test_without_a_limit_a_caller_may_have_them_all() -> None:
    places = Places(10, 0)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(places.take("a"))
        await places.admit("a")

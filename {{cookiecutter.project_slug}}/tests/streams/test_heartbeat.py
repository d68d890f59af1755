import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from app.streams.heartbeat import AHEAD, heartbeat

SILENCE = 0.01


class Source:
    """Yields what is put into `items`; None ends it."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[str | None] = asyncio.Queue()
        self.asked = 0
        self.cleaned_up = False

    async def __call__(self) -> AsyncGenerator[str, None]:
        try:
            while (item := await self._next()) is not None:
                yield item
        finally:
            await asyncio.sleep(0)
            self.cleaned_up = True

    async def _next(self) -> str | None:
        self.asked += 1
        return await self.items.get()


async def test_items_that_are_ready_together_come_together() -> None:
    source = Source()
    for item in ("a", "b", "c", None):
        source.items.put_nowait(item)
    assert [batch async for batch in heartbeat(source(), 5)] == [["a"], ["b", "c"]]


async def test_silence_gives_empty_lists_and_does_not_cancel_the_source() -> None:
    source = Source()
    async with aclosing(heartbeat(source(), SILENCE)) as batches:
        assert await anext(batches) == []
        assert await anext(batches) == []
        source.items.put_nowait("late")
        assert await anext(batches) == ["late"]
    assert source.asked == 1


async def test_the_second_item_is_asked_for_when_the_first_has_been_dealt_with() -> None:
    source = Source()
    source.items.put_nowait("first")
    async with aclosing(heartbeat(source(), 5)) as batches:
        assert await anext(batches) == ["first"]
        await asyncio.sleep(0)
        assert source.asked == 1


async def test_closing_it_closes_the_source_and_awaits_its_cleanup() -> None:
    source = Source()
    async with aclosing(heartbeat(source(), SILENCE)) as batches:
        await anext(batches)
    assert source.cleaned_up


async def test_an_error_comes_after_the_items_before_it() -> None:
    async def failing() -> AsyncGenerator[str, None]:
        yield "a"
        yield "b"
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        async for batch in heartbeat(failing(), 5):
            seen += batch
    assert seen == ["a", "b"]


async def test_a_source_that_cancels_itself_is_an_error_and_not_our_end() -> None:
    async def stray() -> AsyncGenerator[str, None]:
        yield "a"
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="cancelled itself"):
        async for _ in heartbeat(stray(), 5):
            pass


async def test_a_source_that_never_suspends_starves_nobody_and_is_not_pulled_ahead_without_limit() -> None:
    pulled = 0

    async def endless() -> AsyncGenerator[int, None]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    turns = 0
    async with aclosing(heartbeat(endless(), 5)) as batches:
        async for batch in batches:
            turns += 1
            await asyncio.sleep(0.001)
            assert pulled <= batch[-1] + AHEAD
            if turns == 20:
                break


async def test_any_async_iterator_will_do() -> None:
    class Once:
        def __init__(self) -> None:
            self.items = ["only"]

        def __aiter__(self) -> AsyncIterator[str]:
            return self

        async def __anext__(self) -> str:
            if not self.items:
                raise StopAsyncIteration
            return self.items.pop()

    assert [batch async for batch in heartbeat(Once(), 5)] == [["only"]]


async def test_a_time_limit_that_the_source_holds_over_its_items_works() -> None:
    async def slow() -> AsyncGenerator[str, None]:
        async with asyncio.timeout(SILENCE):
            yield "in time"
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        async for _ in heartbeat(slow(), 5):
            pass

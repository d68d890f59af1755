import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.streams.events import Done, Event, KeepAlive, Token
from app.streams.heartbeat import with_heartbeat
from app.streams.log import MemoryLog


async def test_silence_of_any_iterator_is_filled() -> None:
    async def slow() -> AsyncGenerator[Event, None]:
        yield Token("a")
        await asyncio.sleep(0.1)
        yield Token("b")

    batches = [batch async for batch in with_heartbeat(slow(), seconds=0.02)]
    events = [event for batch in batches for event in batch]
    assert [event for event in events if event != KeepAlive()] == [Token("a"), Token("b"), Done()]
    assert events.count(KeepAlive()) >= 2
    assert events[0] == Token("a")


async def test_an_iterator_is_closed_when_its_reader_stops() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Token("a")
        finally:
            await asyncio.sleep(0.001)
            closed.set()

    async with aclosing(with_heartbeat(endless(), seconds=5)) as batches:
        assert (await anext(batches))[0] == Token("a")
    assert closed.is_set()


async def test_of_a_log_it_is_what_comes_behind_a_place() -> None:
    log = MemoryLog()
    log.append(Token("a"), Token("b"), Done())
    assert [batch async for batch in with_heartbeat(log, seconds=5, after=1)] == [[Token("b"), Done()]]

import asyncio
from collections.abc import Sequence

import pytest

from app.streams.events import Done, Error, Event, StreamFault, Token
from app.streams.log import AHEAD_BYTES, BATCH_EVENTS, MemoryLog, size

FAULT = (Error("model_error", "no", True, "-"), Done("error"))


async def whole(log: MemoryLog, place: int = 0) -> list[Event]:
    events: list[Event] = []
    while (batch := await log.after(place, 5)) is not None:
        events += batch
        place += len(batch)
    return events


async def test_what_is_there_comes_at_once_and_as_one_batch() -> None:
    log = MemoryLog()
    log.append(Token("a"))
    log.append(Token("b"))
    assert await log.after(0, 5) == [Token("a"), Token("b")]
    assert await log.after(1, 5) == [Token("b")]


async def test_readers_wait_each_at_its_own_place() -> None:
    log = MemoryLog()
    log.append(Token("a"))
    waiting = [asyncio.create_task(log.after(1, 5)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in waiting)
    log.append(Token("b"), Token("c"))
    assert await asyncio.gather(*waiting) == [[Token("b"), Token("c")]] * 3


async def test_silence_is_an_empty_batch() -> None:
    assert await MemoryLog().after(0, 0.01) == []


async def test_nothing_goes_behind_the_end() -> None:
    log = MemoryLog()
    log.append(Token("a"))
    log.append(*FAULT)
    log.append(Token("b"), Done())
    assert await whole(log) == [Token("a"), *FAULT]
    assert await log.after(3, 5) is None


async def test_a_reader_that_leaves_is_forgotten() -> None:
    log = MemoryLog()
    reader = asyncio.create_task(log.after(0, 5))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait({reader})
    log.append(Token("a"))
    assert await log.after(0, 5) == [Token("a")]


async def test_a_reader_that_is_far_behind_gets_a_part_at_a_time() -> None:
    log = MemoryLog()
    log.append(*(Token(str(number)) for number in range(BATCH_EVENTS + 1)))
    assert [len(await log.after(place, 5) or []) for place in (0, BATCH_EVENTS)] == [BATCH_EVENTS, 1]


@pytest.mark.parametrize("characters", [1, 1000])
async def test_one_of_one_reader_is_full_with_so_many_bytes_and_lets_go_of_what_was_read(characters: int) -> None:
    feed, made = MemoryLog(one_reader=True), 0

    async def fill() -> None:
        nonlocal made
        while True:
            feed.append(Token("x" * characters))
            made += 1
            await feed.wait_for_space()

    filling = asyncio.create_task(fill())
    place, ahead = 0, -(-AHEAD_BYTES // size(Token("x" * characters)))
    for _ in range(10):
        batch: Sequence[Event] | None = await feed.after(place, 5)
        assert batch
        for _ in range(ahead):
            await asyncio.sleep(0)
        assert made == place + ahead
        place += len(batch)
    filling.cancel()


def test_an_event_counts_its_text_and_some() -> None:
    assert size(Token("x" * 1000)) in range(1190, 1210)
    assert size(Token("\N{GRINNING FACE}" * 1000)) > 4000  # in memory
    assert size(Error("code", "x" * 1000, True, "-")) > 1200


async def test_a_reader_who_is_ahead_of_the_log_waits_for_what_comes_behind_its_place() -> None:
    log = MemoryLog()
    waiting = asyncio.create_task(log.after(2, 5))
    for word in ("a", "b"):
        log.append(Token(word))
        await asyncio.sleep(0)
    assert not waiting.done()
    log.append(Token("c"))
    assert await waiting == [Token("c")]


async def test_and_is_told_to_come_back_if_the_log_ends_before_it() -> None:
    log = MemoryLog()
    waiting = asyncio.create_task(log.after(9, 5))
    await asyncio.sleep(0)
    log.append(Token("a"), *FAULT)
    with pytest.raises(StreamFault) as told:
        await waiting
    assert (told.value.error.code, told.value.reason) == ("server_shutdown", "shutdown")
    assert log.end_place == 1


async def test_so_are_all_readers_of_a_log_that_is_cut() -> None:
    log = MemoryLog()
    log.append(Token("a"))
    waiting = asyncio.create_task(log.after(1, 5))
    await asyncio.sleep(0)
    log.cut()
    for reader in (waiting, log.after(0, 5)):
        with pytest.raises(StreamFault):
            await reader

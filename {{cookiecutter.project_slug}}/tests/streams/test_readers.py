"""Whatever a source does: each reader of its log gets the log's events from its own place on, and one end."""

import asyncio
from collections.abc import AsyncGenerator

from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams.events import Done, Error, Event, StreamFault, Token
from app.streams.log import MemoryLog
from app.streams.response import EventStream
from app.streams.source import Run
from tests.asgi import exchange, state
from tests.sse import parse
from tests.streams.dialects import DIALECTS

PAUSE = 0.002
STEPS = ["token", "token", "turn", "pause", "raise", "exit", "fault", "cancel itself", "done", "no event"]
LEAVES = [None, None, 1, 2, 3]  # after so many pieces


async def source(steps: list[str]) -> AsyncGenerator[Event, None]:
    for number, step in enumerate(steps):
        match step:
            case "token":
                yield Token(str(number))
            case "turn":
                await asyncio.sleep(0)
            case "pause":
                await asyncio.sleep(PAUSE)
            case "raise":
                raise ValueError(step)
            case "exit":
                raise SystemExit(step)
            case "fault":
                raise StreamFault(Error("model_error", "no", True, "-"))
            case "cancel itself":
                raise asyncio.CancelledError
            case "done":
                yield Done("length")
            case "no event":
                yield step  # type: ignore[misc]


async def read(log: MemoryLog, place: int, leaves: int | None, later: int, dialect: str) -> str:
    for _ in range(later):
        await asyncio.sleep(0)
    async with exchange(EventStream(log, DIALECTS[dialect].encode, after=place), **state()) as stream:
        if leaves is None:
            return await stream.rest()
        text = "".join([await stream.text() for _ in range(leaves) if not stream.finished])
        stream.gone.set()
        return text


@settings(deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=8),
    readers=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(LEAVES), st.integers(0, 9), st.sampled_from(sorted(DIALECTS))),
        min_size=1,
        max_size=4,
    ),
    stopped=st.none() | st.integers(0, 9),
)
async def test_each_reader_gets_the_logs_events(
    steps: list[str], readers: list[tuple[int, int | None, int, str]], stopped: int | None
) -> None:
    log, others = MemoryLog(), asyncio.all_tasks()
    run = Run(source(steps), log)
    reading = [asyncio.create_task(read(log, *reader)) for reader in readers]
    if stopped is not None:
        for _ in range(stopped):
            await asyncio.sleep(0)
        run.stop(Done("cancelled"))
    texts = await asyncio.wait_for(asyncio.gather(run.closed, *reading, return_exceptions=True), 10)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= others

    events: list[Event] = []
    while batch := await log.after(len(events), 0):
        events += batch
    assert [event.event_type for event in events].count("done") == 1
    assert events[-1].event_type == "done"
    for (place, leaves, _, dialect), text in zip(readers, texts[1:], strict=True):
        assert isinstance(text, str), text
        expected = [event.event_type for event in events[place:]]
        if place > log.end_place and "server_shutdown" in text:  # it is told to come back: it was ahead of the log
            continue
        names = DIALECTS[dialect].names(text)
        assert names == expected if leaves is None else names == expected[: len(names)]
        if dialect == "ours":
            received = parse(text)
            assert [event.id for event in received] == [str(place + number) for number in range(1, len(received) + 1)]
            data = [vars(event) for event in events[place:]]
            assert [event.data for event in received] == data[: len(received)]

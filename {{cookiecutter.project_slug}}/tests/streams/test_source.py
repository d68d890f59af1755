import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from time import sleep

import pytest

from app.streams.events import Done, Error, Event, StreamFault, Token
from app.streams.log import MemoryLog
from app.streams.source import Run, TimeLeft

SOON = 0.02
FAULT = StreamFault(Error("model_timeout", "late", True, "-"), "timeout")


async def ended(source: AsyncIterator[Event], log: MemoryLog, time_left: TimeLeft | None = None) -> None:
    await asyncio.wait_for(Run(source, log, time_left).closed, 5)


async def events_of(log: MemoryLog) -> list[Event]:
    return list(await log.after(0, 0) or [])


def names(events: list[Event]) -> list[str]:
    return [event.event_type for event in events]


async def endless() -> AsyncGenerator[Event, None]:
    yield Token("a")
    await asyncio.sleep(60)


async def test_one_that_is_stopped_has_closed_and_its_log_ends() -> None:
    closed, log = asyncio.Event(), MemoryLog()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            closed.set()

    running = Run(source(), log)
    await log.after(0, 5)
    await running.close()
    assert closed.is_set()
    assert await events_of(log) == [Token("a"), Done("cancelled")]


async def test_stopped_before_its_first_step_its_log_ends_too() -> None:
    log = MemoryLog()
    await Run(endless(), log).close()
    assert await events_of(log) == [Done("cancelled")]


async def test_its_time_may_be_over() -> None:
    log, asked = MemoryLog(), []

    def time_left() -> float:
        asked.append(1)
        if len(asked) > 2:
            raise FAULT
        return SOON

    await ended(endless(), log, time_left)
    assert await events_of(log) == [Token("a"), FAULT.error, Done("timeout")]


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("a panic")])
async def test_what_is_no_exception_is_an_error_of_the_source(raised: BaseException) -> None:
    class Raises:
        def __aiter__(self) -> AsyncIterator[Event]:
            return self

        async def __anext__(self) -> Event:
            raise raised

    log = MemoryLog()
    await ended(Raises(), log)
    assert names(await events_of(log)) == ["error", "done"]


async def test_what_it_fails_with_while_it_closes_is_logged_and_its_end_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Done("length")
        finally:
            raise OSError("the model's connection")

    log = MemoryLog()
    await ended(source(), log)
    assert await events_of(log) == [Done("length")]
    assert "the model's connection" in caplog.text


async def test_what_is_no_event_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield "text"  # type: ignore[misc]

    log = MemoryLog()
    await ended(source(), log)
    assert names(await events_of(log)) == ["error", "done"]
    assert "a source yields events, not str" in caplog.text


async def test_one_that_never_waits_leaves_the_loop_its_turns() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        while True:
            yield Token("a")

    log = MemoryLog()
    running = Run(source(), log)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(await events_of(log)) < 100
    await running.close()


async def test_stopped_while_it_closes_it_is_waited_for_all_the_same() -> None:
    closed, log = asyncio.Event(), MemoryLog()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Done()
        finally:
            await asyncio.sleep(SOON)
            closed.set()

    running = Run(source(), log)
    await asyncio.sleep(SOON / 4)
    await running.close()
    assert closed.is_set()


async def test_a_source_that_cancels_its_own_task_has_failed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", SOON)

    async def source() -> AsyncGenerator[Event, None]:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(0)
        yield Token("a")

    log = MemoryLog()
    running = Run(source(), log)
    await asyncio.wait_for(running.closed, 5)
    await running.close()
    await asyncio.sleep(2 * SOON)
    assert names(await events_of(log)) == ["error", "done"]
    assert [record.message for record in caplog.records] == ["stream failed"]


async def test_a_time_left_that_fails_is_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    def time_left() -> float:
        raise KeyError("on purpose")

    log = MemoryLog()
    await ended(endless(), log, time_left)
    assert names(await events_of(log)) == ["error", "done"]
    assert "on purpose" in caplog.text


class Closes:
    """An iterator that is no generator."""

    def __init__(self, end: Exception, closing: float = 0) -> None:
        self.closed = False
        self._end = end
        self._closing = closing

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        raise self._end

    async def aclose(self) -> None:
        await asyncio.sleep(self._closing)
        self.closed = True


async def test_whatever_has_an_aclose_is_closed() -> None:
    source, log = Closes(StopAsyncIteration()), MemoryLog()
    await ended(source, log)
    assert source.closed


async def test_stopped_before_its_first_step_it_is_closed_too() -> None:
    source = Closes(StopAsyncIteration(), SOON)
    await Run(source, MemoryLog()).close()
    assert source.closed


async def test_one_that_fails_and_then_does_not_close_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", SOON)
    log = MemoryLog()
    await ended(Closes(RuntimeError("on purpose"), closing=60), log)
    assert names(await events_of(log)) == ["error", "done"]


async def test_one_that_yields_after_its_cancellation_is_closed_there() -> None:
    closed, log = asyncio.Event(), MemoryLog()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Token("a")
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
        finally:
            closed.set()

    running = Run(source(), log)
    await log.after(0, 5)
    await asyncio.wait_for(running.close(), 2)
    assert closed.is_set()
    assert await events_of(log) == [Token("a"), Done("cancelled")]


async def test_one_that_closes_as_its_time_for_that_is_over_has_one_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", SOON)
    may_close, log = asyncio.Event(), MemoryLog()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            await asyncio.sleep(60)
        finally:
            await may_close.wait()

    running = Run(source(), log)
    await log.after(0, 5)
    running.stop(Done("x"))
    await asyncio.sleep(0)
    may_close.set()
    sleep(2 * SOON)  # noqa: ASYNC251 - the loop finds the timer and the task at once
    await asyncio.sleep(SOON)
    assert await events_of(log) == [Token("a"), Done("x")]
    assert caplog.text == ""

import asyncio
import threading

import pytest

from app.background import REMEMBERED, Background
from app.shutdown import Shutdown

SOON = 0.02


@pytest.fixture
def background() -> Background:
    return Background(Shutdown(SOON))


class Work:
    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.done: list[str] = []

    async def __call__(self, what: str) -> None:
        await asyncio.sleep(0)
        if self.outcomes and (error := self.outcomes.pop(0)):
            raise error
        self.done.append(what)

    async def run(self, what: str) -> None:
        await self(what)


async def test_a_failure_is_logged_with_the_tasks_name_and_not_raised(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    await background.run(Work(RuntimeError("broken")).run, "a")
    assert "background task run failed" in caplog.text
    assert "broken" in caplog.text


async def test_an_event_id_that_was_done_is_skipped(background: Background) -> None:
    work = Work()
    await background.run(work.run, "a", once="1")
    await background.run(work.run, "b", once="1")
    await background.run(work.run, "c", once="2")
    assert work.done == ["a", "c"]


async def test_an_event_id_that_failed_is_tried_again(background: Background) -> None:
    work = Work(RuntimeError(), None)
    await background.run(work.run, "a", once="1")
    await background.run(work.run, "b", once="1")
    assert work.done == ["b"]


@pytest.mark.parametrize(("first", "done"), [(None, ["a"]), (RuntimeError(), ["b"])])
async def test_the_same_event_id_at_the_same_time_waits_for_the_outcome(
    background: Background, first: Exception | None, done: list[str]
) -> None:
    work = Work(first)
    await asyncio.gather(*(background.run(work.run, what, once="1") for what in ("a", "b")))
    assert work.done == done


async def test_memory_for_event_ids_is_bounded(background: Background) -> None:
    work = Work()
    for number in range(REMEMBERED + 1):
        await background.run(work.run, "x", once=str(number))
    await background.run(work.run, "again", once="0")
    await background.run(work.run, "skipped", once=str(REMEMBERED))
    assert work.done[REMEMBERED:] == ["x", "again"]


async def test_a_sync_task_runs_in_a_thread(background: Background) -> None:
    ran_in: list[threading.Thread] = []
    await background.run(lambda: ran_in.append(threading.current_thread()))
    assert ran_in != [threading.current_thread()]


async def test_an_async_callable_object_is_awaited(background: Background) -> None:
    work = Work()
    await background.run(work, what="by keyword")
    assert work.done == ["by keyword"]


async def test_past_the_drain_limit_an_async_task_is_cancelled_and_logged(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    async def endless() -> None:
        await asyncio.sleep(60)

    background.shutdown.begin()
    await asyncio.wait_for(background.run(endless), 10)
    assert "background task endless cancelled" in caplog.text


async def test_past_the_drain_limit_a_sync_task_is_logged_and_waited_for(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    def stubborn() -> None:
        release.wait(5)

    background.shutdown.begin()
    running = asyncio.create_task(background.run(stubborn))
    with background.shutdown.at_limit(release.set):
        await asyncio.wait_for(running, 10)
    assert "background task stubborn can't be interrupted" in caplog.text


async def test_cancelled_from_outside_it_is_cancelled(background: Background) -> None:
    async def endless() -> None:
        await asyncio.sleep(60)

    running = asyncio.create_task(background.run(endless))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

"""In threads of their own, as in a worker: these tests' own event loop waits for them."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.jobs.attempts import Attempts
from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.store import Store
from tests.jobs.fakes import Broker, Jobs, Order


async def accepted(store: Store, task: Task[Order, Any]) -> str:
    jobs = Jobs(store, Broker())
    job = await jobs.enqueue(task, Order(what="tea"), caller="c")
    await jobs.relay.dispatch_due()
    return job.id


def work(attempts: Attempts, *ids: str) -> None:
    """As a thread of a worker does."""
    try:
        for job_id in ids:
            attempts.run(job_id)
    finally:
        attempts.close()


@pytest.fixture
def attempts(store: Store) -> Attempts:
    return Attempts(store.settings)


async def test_a_job_is_run_and_its_result_kept(
    store: Store, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def number(context: JobContext, order: Order) -> int:
        return 7

    monkeypatch.setitem(TASKS, "number", task := Task("number", number, Order))
    ids = [await accepted(store, task) for _ in range(2)]
    await asyncio.to_thread(work, attempts, *ids)  # the second on the connections of the first
    for job_id in ids:
        assert ((await store.get(job_id)).status, await store.result(job_id)) == ("succeeded", "7")


async def test_each_thread_has_an_event_loop_of_its_own(
    store: Store, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs that block theirs until the other has begun."""
    both = threading.Barrier(2, timeout=10)

    async def block(context: JobContext, order: Order) -> int:
        return both.wait()

    monkeypatch.setitem(TASKS, "block", task := Task("block", block, Order))
    ids = [await accepted(store, task) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(threads, work, attempts, each) for each in ids))
    assert [(await store.get(job_id)).status for job_id in ids] == ["succeeded", "succeeded"]


async def test_threads_that_stopped_jobs_left_behind_are_not_missing_to_the_next(
    store: Store, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, pool = threading.Event(), min(32, (os.cpu_count() or 1) + 4)  # as many threads as a default executor has

    async def hang(context: JobContext, order: Order) -> None:
        for _ in range(pool - 1):
            asyncio.get_running_loop().run_in_executor(None, goes_on.wait)
        await asyncio.to_thread(goes_on.wait)

    async def thread(context: JobContext, order: Order) -> None:
        await asyncio.to_thread(time.sleep, 0)

    monkeypatch.setitem(TASKS, "hang", hanging := Task("hang", hang, Order, max_attempts=1, timeout=0.1))
    monkeypatch.setitem(TASKS, "thread", threaded := Task("thread", thread, Order))
    first, second = await accepted(store, hanging), await accepted(store, threaded)

    def both() -> None:
        with pytest.raises(Exception, match="not done in"):
            attempts.run(first)
        work(attempts, second)

    try:
        await asyncio.wait_for(asyncio.to_thread(both), 10)
    finally:
        goes_on.set()
    assert (await store.get(second)).status == "succeeded"


@pytest.mark.parametrize("job_id", [None, 5, ["j"], {"j": 1}, "../j", "\ud800", "0" * 10_000_000, "0" * 31 + ":"])
async def test_what_is_no_id_is_dropped(attempts: Attempts, caplog: pytest.LogCaptureFixture, job_id: object) -> None:
    """The store would be asked for it again and again."""
    await asyncio.wait_for(asyncio.to_thread(attempts.run, job_id), 10)
    assert "is no job's id" in caplog.text
    assert len(caplog.text) < 500

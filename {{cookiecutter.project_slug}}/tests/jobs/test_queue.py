import asyncio
import time

import pytest
from pydantic import BaseModel

from app.errors import Conflict
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.store import Store


class Order(BaseModel):
    what: str


class Broker:
    """Takes ids; fails as often as `failures` says."""

    def __init__(self) -> None:
        self.ids: asyncio.Queue[str] = asyncio.Queue()
        self.failures = 0

    async def dispatch(self, job_id: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the broker is away")
        self.ids.put_nowait(job_id)

    async def checks(self) -> dict[str, str]:
        return {}


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def jobs(store: Store, broker: Broker) -> JobQueue:
    return JobQueue(store, broker.dispatch, broker.checks)


async def fail(jobs: JobQueue, job: Job) -> None:
    await jobs.store.update(
        job.id, lambda job: job.model_copy(update={"status": "failed", "due": None, "ended_at": time.time()})
    )


async def test_accepting_a_job_asks_nothing_of_the_broker(jobs: JobQueue, broker: Broker) -> None:
    job = await jobs.enqueue("t", Order(what="tea"), caller="c")
    assert (job.status, broker.ids.qsize()) == ("queued", 0)
    assert await jobs.store.payload(job.id) == '{"what":"tea"}'


async def test_the_relay_dispatches_an_accepted_job_at_once_and_only_once(jobs: JobQueue, broker: Broker) -> None:
    async with jobs.relaying():
        job = await jobs.enqueue("t", Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 5) == job.id
        other = await jobs.enqueue("t", Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 5) == other.id
    assert broker.ids.empty()


async def test_two_relays_dispatch_a_job_once(store: Store, broker: Broker) -> None:
    first, second = (JobQueue(store, broker.dispatch, broker.checks) for _ in range(2))
    async with first.relaying(), second.relaying():
        sent = {(await first.enqueue("t", Order(what=str(n)), caller="c")).id for n in range(10)}
        assert {await asyncio.wait_for(broker.ids.get(), 5) for _ in range(10)} == sent
    assert broker.ids.empty()


async def test_a_broker_that_is_away_delays_jobs_and_refuses_none(
    jobs: JobQueue, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.failures = 1
    async with jobs.relaying():
        accepted = {(await jobs.enqueue("t", Order(what=str(n)), caller="c")).id for n in range(2)}
        assert await asyncio.wait_for(broker.ids.get(), 5) in accepted
    assert "jobs wait: they can't be dispatched" in caplog.text


async def test_the_same_key_gives_the_same_job(jobs: JobQueue) -> None:
    first = await jobs.enqueue("t", Order(what="tea"), caller="c", key="k")
    assert await jobs.enqueue("t", Order(what="tea"), caller="c", key="k") == first


@pytest.mark.parametrize(
    ("task", "caller", "key"), [("u", "c", "k"), ("t", "d", "k"), ("t", "c", "l"), ("t", "c", None)]
)
async def test_another_task_caller_or_key_gives_another_job(
    jobs: JobQueue, task: str, caller: str, key: str | None
) -> None:
    first = await jobs.enqueue("t", Order(what="tea"), caller="c", key="k")
    assert (await jobs.enqueue(task, Order(what="tea"), caller=caller, key=key)).id != first.id


async def test_the_same_key_with_another_payload_is_a_conflict(jobs: JobQueue) -> None:
    await jobs.enqueue("t", Order(what="tea"), caller="c", key="k")
    with pytest.raises(Conflict, match="Idempotency-Key"):
        await jobs.enqueue("t", Order(what="coffee"), caller="c", key="k")


async def test_a_failed_job_that_is_retried_is_dispatched_again(jobs: JobQueue, broker: Broker) -> None:
    async with jobs.relaying():
        job = await jobs.enqueue("t", Order(what="tea"), caller="c")
        await asyncio.wait_for(broker.ids.get(), 5)
        await fail(jobs, job)
        assert (await jobs.retry(job.id)).status == "queued"
        assert await asyncio.wait_for(broker.ids.get(), 5) == job.id

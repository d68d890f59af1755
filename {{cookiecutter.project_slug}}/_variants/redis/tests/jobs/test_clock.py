"""Whatever the clock of a machine says, the times of jobs are Redis's."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.lease import take
from app.jobs.runner import run
from app.jobs.store import Store
from tests.jobs.fakes import Broker, Jobs, Order, T

NEAR = 120.0  # seconds that a busy machine may take, and fewer than the clocks differ


@pytest.fixture(params=[-600.0, 600.0, 3600.0])
def off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock differs by so many seconds from that of Redis."""
    seconds: float = request.param
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + seconds)


async def told(store: Store) -> float:
    seconds, microseconds = await store.client.time()
    return float(seconds + microseconds / 1_000_000)


@pytest.mark.usefixtures("off")
async def test_a_job_keeps_its_lease_whatever_clock_its_worker_has(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay takes the lease from whoever has let it run out. The job is due again after a lease, not before."""
    leases: list[float] = []

    async def body(context: JobContext, order: Order) -> None:
        leases.append((await store.get(context.key)).due or 0)
        context.progress(0.5)
        while len(leases) < 2:
            await asyncio.sleep(0.05)
            if (job := await store.get(context.key)).progress.fraction:  # the lease was renewed with it
                leases.append(job.due or 0)
        await relay.dispatch_due()  # another process finds nothing that is due

    monkeypatch.setitem(TASKS, "body", task := Task("body", body, Order))
    jobs = Jobs(store, Broker())
    relay = jobs.relay
    began = await told(store)
    job = await jobs.enqueue(task, Order(what="tea"), caller="c")
    assert await relay.dispatch_due() == 1
    await run(store, job.id, store.settings)
    job = await store.get(job.id)
    assert (job.status, job.attempts) == ("succeeded", 1)
    for lease in leases:
        assert lease - began == pytest.approx(store.settings.job_lease_seconds, abs=NEAR)
    for at in (job.created_at, job.started_at, job.ended_at):
        assert at == pytest.approx(began, abs=NEAR)
    assert await store.client.zscore(store.records.index("succeeded"), job.id) == pytest.approx(began, abs=NEAR)


@pytest.mark.usefixtures("off")
async def test_a_job_is_retried_after_its_pause(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(context: JobContext, order: Order) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setitem(TASKS, "fails", task := Task("fails", fails, Order))
    jobs = Jobs(store, Broker())
    job = await jobs.enqueue(task, Order(what="tea"), caller="c")
    await jobs.relay.dispatch_due()
    await run(store, job.id, store.settings)
    assert (await store.get(job.id)).due == pytest.approx(await told(store) + 1, abs=NEAR)


@pytest.mark.usefixtures("off")
async def test_a_job_for_later_and_one_that_is_cancelled_have_the_time_of_redis(store: Store) -> None:
    jobs = Jobs(store, Broker())
    later = datetime.fromtimestamp(await told(store), UTC) + timedelta(seconds=300)
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", due=later)
    assert job.due == later.timestamp()
    assert await jobs.relay.dispatch_due() == 0
    assert (await jobs.cancel(job.id, caller="c")).ended_at == pytest.approx(await told(store), abs=NEAR)


async def test_a_failover_to_a_server_with_another_clock_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await store.now() == pytest.approx(await told(store), abs=NEAR)

    async def other() -> tuple[int, int]:
        return 1_000_000, 500_000

    monkeypatch.setattr(store.client, "time", other)
    monkeypatch.setattr("app.jobs.records.HEARD_SECONDS", 0.0)
    assert await store.now() == pytest.approx(1_000_000.5, abs=NEAR)


async def test_who_has_just_heard_the_time_does_not_ask_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await Jobs(store, Broker()).enqueue(T, Order(what="tea"), caller="c")
    await store.update(job.id, lambda job: job.model_copy(update={"dispatches": 1}))
    monkeypatch.setattr(store.client, "time", None)  # it would raise
    lease, _ = await take(store, job.id, store.settings)
    assert (lease.job.due or 0) == pytest.approx(lease.job.created_at + store.settings.job_lease_seconds, abs=NEAR)

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import Unavailable
from app.jobs import relay
from app.jobs.job import Job
from app.jobs.relay import BATCH, FEW, RELAY_SECONDS
from app.jobs.status import Progress
from app.jobs.store import Store
from tests.jobs.fakes import LEASE_SECONDS, Broker, Jobs, Order, T


async def test_the_relay_dispatches_an_accepted_job_at_once_and_only_once(jobs: Jobs, broker: Broker) -> None:
    async with jobs.relay.running():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 10) == job.id
        other = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 10) == other.id
    assert broker.ids.empty()


async def test_two_relays_dispatch_a_job_once(store: Store, broker: Broker) -> None:
    first, second = (Jobs(store, broker) for _ in range(2))
    async with first.relay.running(), second.relay.running():
        sent = {(await first.enqueue(T, Order(what=str(n)), caller="c")).id for n in range(10)}
        assert {await asyncio.wait_for(broker.ids.get(), 10) for _ in range(10)} == sent
    assert broker.ids.empty()


async def test_a_broker_that_is_away_delays_jobs_and_refuses_none(
    store: Store, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "RELAY_SECONDS", 0.01)
    jobs = Jobs(store, broker, lease_seconds=0.03)
    broker.away = 3
    async with jobs.relay.running():
        accepted = {(await jobs.enqueue(T, Order(what=str(n)), caller="c")).id for n in range(2)}
        assert await asyncio.wait_for(broker.ids.get(), 10) in accepted
    assert caplog.text.count("jobs wait: they can't be dispatched") == 1


async def test_after_an_outage_the_holder_of_a_job_has_time_to_renew_its_lease(
    jobs: Jobs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "RELAY_SECONDS", 0.01)
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    await jobs.relay.dispatch_due()
    assert broker.ids.get_nowait() == job.id
    await jobs.store.update(job.id, lambda job: job.begin("me", 0, 15, 3))  # its lease ran out during the outage
    broker.away = 2
    async with jobs.relay.running():
        while broker.away:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # five looks later
        job = await jobs.store.update(job.id, lambda job: job.renewed("me", time.time(), 15, Progress()))
        assert (job.status, job.holder, broker.ids.qsize()) == ("running", "me", 0)


@pytest.mark.parametrize("lease_seconds", [LEASE_SECONDS, 3.0])
async def test_a_message_that_is_lost_is_sent_again_after_a_lease(
    store: Store, broker: Broker, lease_seconds: float
) -> None:
    now = [time.time()]
    jobs = Jobs(store, broker, lambda: now[0], lease_seconds)
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    broker.loses = 1
    with pytest.raises(ConnectionError):
        await jobs.relay.dispatch_due()
    now[0] += lease_seconds - 1
    assert await jobs.relay.dispatch_due() == 0
    now[0] += 1
    assert await jobs.relay.dispatch_due() == 1
    assert broker.ids.get_nowait() == job.id


async def test_a_relay_that_ends_by_itself_is_told_of(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks() -> int:
        raise BaseExceptionGroup("not caught by `except Exception`", [GeneratorExit()])

    monkeypatch.setattr(jobs.relay, "dispatch_due", breaks)
    async with jobs.relay.running():
        while "has ended" not in caplog.text:
            await asyncio.sleep(0)
    assert "the jobs relay has ended, and jobs wait until a restart" in caplog.text


async def test_what_is_claimed_is_sent_though_the_store_goes_away(
    jobs: Jobs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await jobs.enqueue(T, Order(what=what), caller="c") for what in ("tea", "milk")]
    update = jobs.store.update

    async def unsteady(job_id: str, *rest: Any) -> Job:
        if job_id == second.id:
            raise Unavailable("away")
        return await update(job_id, *rest)

    monkeypatch.setattr(jobs.store, "update", unsteady)
    with pytest.raises(Unavailable):
        await jobs.relay.dispatch_due()
    assert (broker.ids.get_nowait(), broker.ids.qsize()) == (first.id, 0)


async def test_a_job_for_later_waits_for_its_time(store: Store, broker: Broker) -> None:
    now = [time.time()]
    jobs = Jobs(store, broker, lambda: now[0])
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", due=datetime.now(UTC) + timedelta(hours=1))
    assert await jobs.relay.dispatch_due() == 0
    now[0] += 3601
    assert await jobs.relay.dispatch_due() == 1
    assert broker.ids.get_nowait() == job.id


async def test_a_long_wait_without_a_worker_makes_few_messages(store: Store) -> None:
    """Of 300 jobs, with space for 100 messages and two web processes, in ten minutes."""
    now, broker = [time.time()], Broker(limit=100)
    first, second = (Jobs(store, broker, lambda: now[0]) for _ in range(2))
    for number in range(300):
        await first.enqueue(T, Order(what=str(number)), caller="c")
    for _ in range(int(600 / RELAY_SECONDS)):
        await asyncio.gather(first.relay.dispatch_due(), second.relay.dispatch_due())
        now[0] += RELAY_SECONDS
    assert 100 <= broker.ids.qsize() <= 100 + BATCH


@pytest.mark.parametrize(("jobs_that_wait", "messages"), [(FEW - 1, 2), (FEW, 1)])
async def test_a_message_is_not_repeated_soon_behind_many_others(
    store: Store, broker: Broker, jobs_that_wait: int, messages: int
) -> None:
    now = [time.time()]
    jobs = Jobs(store, broker, lambda: now[0])
    for number in range(jobs_that_wait):
        await jobs.enqueue(T, Order(what=str(number)), caller="c")
    assert await jobs.relay.dispatch_due() == jobs_that_wait
    now[0] += LEASE_SECONDS
    assert await jobs.relay.dispatch_due() == jobs_that_wait
    assert broker.ids.qsize() == messages * jobs_that_wait


async def test_in_the_end_it_is_repeated_behind_many_others_too(store: Store, broker: Broker) -> None:
    began = time.time()
    now = [began]
    jobs = Jobs(store, broker, lambda: now[0])
    for number in range(FEW):
        await jobs.enqueue(T, Order(what=str(number)), caller="c")
    while broker.ids.qsize() < 2 * FEW:
        await jobs.relay.dispatch_due()
        now[0] += RELAY_SECONDS
        assert now[0] - began < 400


async def test_what_waits_for_space_goes_before_what_is_repeated(store: Store) -> None:
    now, broker = [time.time()], Broker(limit=2)
    jobs = Jobs(store, broker, lambda: now[0])
    accepted = []
    for number in range(4):
        accepted.append((await jobs.enqueue(T, Order(what=str(number)), caller="c")).id)
        now[0] += 1
    seen = []
    for _ in range(6):
        await jobs.relay.dispatch_due()
        now[0] += 20
        while not broker.ids.empty():
            seen.append(broker.ids.get_nowait())
    assert seen[:4] == accepted


async def test_more_than_one_look_brings_is_dispatched_at_once(
    jobs: Jobs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 2)
    monkeypatch.setattr(relay, "RELAY_SECONDS", 60)
    for number in range(7):
        await jobs.enqueue(T, Order(what=str(number)), caller="c")
    async with jobs.relay.running():
        for _ in range(7):
            await asyncio.wait_for(broker.ids.get(), 10)

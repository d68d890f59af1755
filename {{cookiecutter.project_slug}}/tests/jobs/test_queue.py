import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, computed_field

from app.errors import Conflict, Unavailable
from app.jobs import queue
from app.jobs.definition import JobContext, Task
from app.jobs.job import Job, Progress
from app.jobs.queue import BATCH, FEW, RELAY_SECONDS, JobQueue
from app.jobs.store import Store


class Order(BaseModel):
    what: str


async def nothing(context: JobContext, order: Order) -> None:
    """Never run here."""


LEASE_SECONDS = 15
T, U = Task("t", nothing, Order), Task("u", nothing, Order)


def dispatched_job(id: str, **fields: Any) -> Job:  # noqa: A002
    """As a message finds it."""
    return Job(
        **{"id": id, "task": "t", "fingerprint": "f", "request_id": "r", "created_at": 0, "due": 0, "dispatches": 1}
        | fields
    )


class Broker:
    """Takes as many ids as there is room for; is away, or loses what it is given, as often as is said."""

    def __init__(self, limit: int = 1000) -> None:
        self.ids: asyncio.Queue[str] = asyncio.Queue()
        self.limit = limit
        self.away = self.loses = 0

    async def waiting(self) -> int:
        if self.away:
            self.away -= 1
            raise ConnectionError("the broker is away")
        return self.ids.qsize()

    async def dispatch(self, jobs: Sequence[Job]) -> None:
        if self.loses:
            self.loses -= 1
            raise ConnectionError("the broker went away")
        for job in jobs:
            self.ids.put_nowait(job.id)

    async def checks(self) -> dict[str, str]:
        return {}


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def jobs(store: Store, broker: Broker) -> JobQueue:
    return JobQueue(store, broker)


async def fail(jobs: JobQueue, job: Job) -> None:
    await jobs.store.update(
        job.id, lambda job: job.model_copy(update={"status": "failed", "due": None, "ended_at": time.time()})
    )


async def test_accepting_a_job_asks_nothing_of_the_broker(jobs: JobQueue, broker: Broker) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    assert (job.status, broker.ids.qsize()) == ("queued", 0)
    assert await jobs.store.payload(job.id) == '{"what":"tea"}'


async def test_the_relay_dispatches_an_accepted_job_at_once_and_only_once(jobs: JobQueue, broker: Broker) -> None:
    async with jobs.relaying():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 5) == job.id
        other = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 5) == other.id
    assert broker.ids.empty()


async def test_two_relays_dispatch_a_job_once(store: Store, broker: Broker) -> None:
    first, second = (JobQueue(store, broker) for _ in range(2))
    async with first.relaying(), second.relaying():
        sent = {(await first.enqueue(T, Order(what=str(n)), caller="c")).id for n in range(10)}
        assert {await asyncio.wait_for(broker.ids.get(), 5) for _ in range(10)} == sent
    assert broker.ids.empty()


async def test_a_broker_that_is_away_delays_jobs_and_refuses_none(
    store: Store, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RELAY_SECONDS", 0.01)
    jobs = JobQueue(store, broker, lease_seconds=0.03)
    broker.away = 3
    async with jobs.relaying():
        accepted = {(await jobs.enqueue(T, Order(what=str(n)), caller="c")).id for n in range(2)}
        assert await asyncio.wait_for(broker.ids.get(), 5) in accepted
    assert caplog.text.count("jobs wait: they can't be dispatched") == 1


async def test_after_an_outage_the_holder_of_a_job_has_time_to_renew_its_lease(
    jobs: JobQueue, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RELAY_SECONDS", 0.01)
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    await jobs.dispatch_due()
    assert broker.ids.get_nowait() == job.id
    await jobs.store.update(job.id, lambda job: job.begin("me", 0, 15, 3))  # its lease ran out during the outage
    broker.away = 2
    async with jobs.relaying():
        while broker.away:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # five looks later
        job = await jobs.store.update(job.id, lambda job: job.renewed("me", time.time(), 15, Progress()))
        assert (job.status, job.holder, broker.ids.qsize()) == ("running", "me", 0)


async def test_a_message_that_is_lost_is_sent_again(store: Store, broker: Broker) -> None:
    now = [time.time()]
    jobs = JobQueue(store, broker, lambda: now[0])
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    broker.loses = 1
    with pytest.raises(ConnectionError):
        await jobs.dispatch_due()
    now[0] += LEASE_SECONDS - 1
    assert await jobs.dispatch_due() == 0
    now[0] += 1
    assert await jobs.dispatch_due() == 1
    assert broker.ids.get_nowait() == job.id


async def test_what_is_claimed_is_sent_though_the_store_goes_away(
    jobs: JobQueue, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await jobs.enqueue(T, Order(what=what), caller="c") for what in ("tea", "milk")]
    update = jobs.store.update

    async def unsteady(job_id: str, *rest: Any) -> Job:
        if job_id == second.id:
            raise Unavailable("away")
        return await update(job_id, *rest)

    monkeypatch.setattr(jobs.store, "update", unsteady)
    with pytest.raises(Unavailable):
        await jobs.dispatch_due()
    assert (broker.ids.get_nowait(), broker.ids.qsize()) == (first.id, 0)


async def test_the_same_key_gives_the_same_job(jobs: JobQueue) -> None:
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert await jobs.enqueue(T, Order(what="tea"), caller="c", key="k") == first


@pytest.mark.parametrize(("task", "caller", "key"), [(U, "c", "k"), (T, "d", "k"), (T, "c", "l"), (T, "c", None)])
async def test_another_task_caller_or_key_gives_another_job(
    jobs: JobQueue, task: Task[Order, None], caller: str, key: str | None
) -> None:
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert (await jobs.enqueue(task, Order(what="tea"), caller=caller, key=key)).id != first.id


async def test_the_same_key_with_another_payload_is_a_conflict(jobs: JobQueue) -> None:
    await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    with pytest.raises(Conflict, match="Idempotency-Key"):
        await jobs.enqueue(T, Order(what="coffee"), caller="c", key="k")


async def test_a_failed_job_that_is_retried_is_dispatched_again(jobs: JobQueue, broker: Broker) -> None:
    async with jobs.relaying():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        await asyncio.wait_for(broker.ids.get(), 5)
        await fail(jobs, job)
        assert (await jobs.retry(job.id)).status == "queued"
        assert await asyncio.wait_for(broker.ids.get(), 5) == job.id


async def test_a_key_whose_job_failed_can_be_tried_again(jobs: JobQueue) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    await fail(jobs, job)
    again = await asyncio.gather(*(jobs.enqueue(T, Order(what="tea"), caller="c", key="k") for _ in range(5)))
    assert {(job.id, job.status, job.attempts) for job in again} == {(job.id, "queued", 0)}


async def test_a_job_for_later_waits_for_its_time(store: Store, broker: Broker) -> None:
    now = [time.time()]
    jobs = JobQueue(store, broker, lambda: now[0])
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", due=datetime.now(UTC) + timedelta(hours=1))
    assert await jobs.dispatch_due() == 0
    now[0] += 3601
    assert await jobs.dispatch_due() == 1
    assert broker.ids.get_nowait() == job.id


async def test_a_time_without_a_zone_is_refused(jobs: JobQueue) -> None:
    with pytest.raises(ValueError, match="due: a datetime with a time zone"):
        await jobs.enqueue(T, Order(what="tea"), caller="c", due=datetime(2030, 1, 1))


async def test_a_long_wait_without_a_worker_makes_few_messages(store: Store) -> None:
    """Of 300 jobs, with room for 100 messages and two web processes, in ten minutes."""
    now, broker = [time.time()], Broker(limit=100)
    first, second = (JobQueue(store, broker, lambda: now[0]) for _ in range(2))
    for number in range(300):
        await first.enqueue(T, Order(what=str(number)), caller="c")
    for _ in range(int(600 / RELAY_SECONDS)):
        await asyncio.gather(first.dispatch_due(), second.dispatch_due())
        now[0] += RELAY_SECONDS
    assert 100 <= broker.ids.qsize() <= 100 + BATCH


@pytest.mark.parametrize(("jobs_that_wait", "messages"), [(FEW - 1, 2), (FEW, 1)])
async def test_a_message_is_not_repeated_soon_behind_many_others(
    store: Store, broker: Broker, jobs_that_wait: int, messages: int
) -> None:
    now = [time.time()]
    jobs = JobQueue(store, broker, lambda: now[0])
    for number in range(jobs_that_wait):
        await jobs.enqueue(T, Order(what=str(number)), caller="c")
    assert await jobs.dispatch_due() == jobs_that_wait
    now[0] += LEASE_SECONDS
    assert await jobs.dispatch_due() == jobs_that_wait
    assert broker.ids.qsize() == messages * jobs_that_wait


async def test_in_the_end_it_is_repeated_behind_many_others_too(store: Store, broker: Broker) -> None:
    began = time.time()
    now = [began]
    jobs = JobQueue(store, broker, lambda: now[0])
    for number in range(FEW):
        await jobs.enqueue(T, Order(what=str(number)), caller="c")
    while broker.ids.qsize() < 2 * FEW:
        await jobs.dispatch_due()
        now[0] += RELAY_SECONDS
        assert now[0] - began < 400


async def test_what_waits_for_room_goes_before_what_is_repeated(store: Store) -> None:
    now, broker = [time.time()], Broker(limit=2)
    jobs = JobQueue(store, broker, lambda: now[0])
    accepted = []
    for number in range(4):
        accepted.append((await jobs.enqueue(T, Order(what=str(number)), caller="c")).id)
        now[0] += 1
    seen = []
    for _ in range(6):
        await jobs.dispatch_due()
        now[0] += 20
        while not broker.ids.empty():
            seen.append(broker.ids.get_nowait())
    assert seen[:4] == accepted


async def test_a_time_that_is_over_is_now(jobs: JobQueue) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", due=datetime(2020, 1, 1, tzinfo=UTC))
    assert job.due == job.created_at


async def test_more_than_one_look_brings_is_dispatched_at_once(
    jobs: JobQueue, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "BATCH", 2)
    monkeypatch.setattr(queue, "RELAY_SECONDS", 60)
    for number in range(7):
        await jobs.enqueue(T, Order(what=str(number)), caller="c")
    async with jobs.relaying():
        for _ in range(7):
            await asyncio.wait_for(broker.ids.get(), 5)


async def test_another_request_that_tries_a_failed_key_at_the_same_moment_gets_the_same_job(
    jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    await fail(jobs, job)
    create = jobs.store.create

    async def late(job: Job, payload: str) -> Job:
        stored = await create(job, payload)
        await jobs.store.update(job.id, lambda job: job.again(time.time()))  # by the other one
        return stored

    monkeypatch.setattr(jobs.store, "create", late)
    again = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert (again.id, again.status) == (job.id, "queued")


class Aliased(BaseModel):
    user_id: int = Field(alias="userId")

    @computed_field
    def twice(self) -> int:
        return 2 * self.user_id


async def test_a_payload_arrives_as_it_was_meant(jobs: JobQueue) -> None:
    async def take(context: JobContext, payload: Aliased) -> None: ...

    job = await jobs.enqueue(Task("a", take, Aliased), Aliased(userId=7), caller="c")
    assert Aliased.model_validate_json(await jobs.store.payload(job.id)).user_id == 7


class Lossy(BaseModel):
    number: float = 0
    secret: SecretStr = SecretStr("")


@pytest.mark.parametrize("payload", [Lossy(number=float("nan")), Lossy(secret=SecretStr("hush"))])
async def test_a_payload_that_json_can_not_carry_is_refused(jobs: JobQueue, payload: Lossy) -> None:
    async def take(context: JobContext, payload: Lossy) -> None: ...

    with pytest.raises(ValueError, match="the payload of a is not the same any more"):
        await jobs.enqueue(Task("a", take, Lossy), payload, caller="c")


class LaterOrder(Order):
    milk: bool = False


async def test_the_next_version_knows_the_same_request_by_its_key(jobs: JobQueue) -> None:
    async def take(context: JobContext, order: LaterOrder) -> None: ...

    later = Task("t", take, LaterOrder)
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert await jobs.enqueue(later, LaterOrder(what="tea"), caller="c", key="k") == first
    with pytest.raises(Conflict):
        await jobs.enqueue(later, LaterOrder(what="tea", milk=True), caller="c", key="k")


async def test_a_request_has_one_deadline_however_many_calls_it_takes(
    jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object) -> Job:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(queue, "DEADLINE_SECONDS", 0.02)
    monkeypatch.setattr(jobs.store, "create", slow)
    monkeypatch.setattr(jobs.store, "update", slow)
    for call in (jobs.enqueue(T, Order(what="tea"), caller="c"), jobs.cancel("j"), jobs.retry("j")):
        with pytest.raises(Unavailable):
            await call

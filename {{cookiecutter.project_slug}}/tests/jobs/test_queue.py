import asyncio
import inspect
import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel, Field, SecretStr, computed_field

from app import telemetry
from app.callers.caller import Caller
from app.errors import Conflict, NotFound, TooMany, Unavailable
from app.jobs import queue
from app.jobs.definition import JobContext, Task
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.routes import read_job
from app.jobs.store import Store
from app.logs import request_id
from app.streams.events import Done, Error
from tests.jobs.fakes import Broker, Jobs, Order, T, U

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def fail(jobs: Jobs, job: Job) -> None:
    await jobs.store.update(
        job.id, lambda job: job.model_copy(update={"status": "failed", "due": None, "ended_at": time.time()})
    )


async def payload_of(jobs: Jobs, job: Job) -> str:
    _, payload = await jobs.store.begin(job.id, lambda job, now: job)
    return payload


async def test_accepting_a_job_asks_nothing_of_the_broker(jobs: Jobs, broker: Broker) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    assert (job.status, broker.ids.qsize()) == ("queued", 0)
    assert await payload_of(jobs, job) == '{"what":"tea"}'


async def test_a_job_knows_who_asked_for_it(jobs: Jobs) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="alice")
    assert (await jobs.get(job.id, caller="alice")).caller == "alice"


async def test_a_job_that_is_accepted_is_told_of_once_and_belongs_to_the_trace(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is sent again accepts nothing, and neither does one by which a failed job is run again."""
    caplog.set_level("INFO", "app.telemetry")
    telemetry.join_trace(TRACEPARENT)
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert job.traceparent.split("-")[1] == TRACEPARENT.split("-")[1]
    telemetry.join_trace("")
    await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    await fail(jobs, job)
    again = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert (again.status, again.traceparent) == ("queued", job.traceparent)
    assert [(vars(line)["task"], vars(line)["job"]) for line in caplog.records] == [("t", job.id)]


async def test_the_same_key_gives_the_same_job(jobs: Jobs) -> None:
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert await jobs.enqueue(T, Order(what="tea"), caller="c", key="k") == first


def test_whatever_takes_an_id_can_not_be_called_without_a_caller() -> None:
    """A route that forgets to say who asks is refused by mypy, and fails: it lets in nobody."""
    takes = {"enqueue", "get", "latest", "cancel", "retry", "resume", "log"}
    for name, method in inspect.getmembers(JobQueue, inspect.isfunction):
        parameters = inspect.signature(method).parameters
        if name in takes or ("job_id" in parameters and not name.startswith("_")):
            caller = parameters["caller"]
            assert (caller.kind, caller.default) == (caller.KEYWORD_ONLY, caller.empty)
            takes.discard(name)
    assert not takes


async def test_another_caller_s_job_is_as_one_that_is_unknown(jobs: Jobs) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="me")
    await fail(jobs, job)
    before = await jobs.get(job.id, caller="me")
    for job_id in (job.id, "0" * 32):
        for call in (
            jobs.get(job_id, caller="you"),
            jobs.cancel(job_id, caller="you"),
            jobs.retry(job_id, caller="you"),
            jobs.resume(job_id, 0, caller="you"),
            jobs.resume(job_id, 9, caller="you"),
        ):
            with pytest.raises(NotFound, match=r"^there is no such job$"):
                await call
        events = await jobs.log(job_id, caller="you").after(0, 60)
        assert events == [Error("not_found", "There is no such job.", False, request_id.get()), Done("error")]
    assert await jobs.get(job.id, caller="me") == before
    assert await jobs.latest(None, 10, caller="you") == []
    assert await jobs.latest(None, 10, caller="me") == [before]


async def test_another_caller_s_key_does_not_run_a_failed_job_again(jobs: Jobs) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="me", key="k")
    await fail(jobs, job)
    other = await jobs.enqueue(T, Order(what="coffee"), caller="you", key="k")
    assert (other.id != job.id, other.caller, other.status) == (True, "you", "queued")
    assert (await jobs.get(job.id, caller="me")).status == "failed"


@pytest.mark.parametrize(("task", "caller", "key"), [(U, "c", "k"), (T, "d", "k"), (T, "c", "l"), (T, "c", None)])
async def test_another_task_caller_or_key_gives_another_job(
    jobs: Jobs, task: Task[Order, None], caller: str, key: str | None
) -> None:
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert (await jobs.enqueue(task, Order(what="tea"), caller=caller, key=key)).id != first.id


async def test_who_may_begin_is_asked_before_a_new_job_is_accepted_and_nothing_is_kept_of_one_that_may_not(
    store: Store, broker: Broker
) -> None:
    admitted: list[str] = []

    async def admit(caller: str) -> None:
        if len(admitted) == 2:
            raise TooMany("too many", limit="some", quota=2, per="w=60", seconds=9)
        admitted.append(caller)

    jobs = Jobs(store, broker, admit=admit)
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    await jobs.enqueue(T, Order(what="tea"), caller="c")
    for key in (None, "l"):
        with pytest.raises(TooMany):
            await jobs.enqueue(T, Order(what="tea"), caller="c", key=key)
    assert await jobs.enqueue(T, Order(what="tea"), caller="c", key="k") == first
    await fail(jobs, first)
    for again in (jobs.enqueue(T, Order(what="tea"), caller="c", key="k"), jobs.retry(first.id, caller="c")):
        with pytest.raises(TooMany):
            await again
    del admitted[0]
    assert (await jobs.retry(first.id, caller="c")).status == "queued"
    assert (admitted, len(await jobs.latest(None, 9, caller="c"))) == (["c", "c"], 2)


async def test_what_a_limit_fails_with_is_its_own(store: Store, broker: Broker) -> None:
    """It does not say that the store is away: a 503, and nothing in the log."""

    async def admit(caller: str) -> None:
        raise TimeoutError("of the limit")

    jobs = Jobs(store, broker, admit=admit)
    with pytest.raises(TimeoutError, match="of the limit"):
        await jobs.enqueue(T, Order(what="tea"), caller="c")


async def test_the_same_key_with_another_payload_is_a_conflict(jobs: Jobs) -> None:
    await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    with pytest.raises(Conflict, match="Idempotency-Key"):
        await jobs.enqueue(T, Order(what="coffee"), caller="c", key="k")


async def test_a_failed_job_that_is_retried_is_dispatched_again(jobs: Jobs, broker: Broker) -> None:
    async with jobs.relay.running():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        await asyncio.wait_for(broker.ids.get(), 10)
        await fail(jobs, job)
        assert (await jobs.retry(job.id, caller="c")).status == "queued"
        assert await asyncio.wait_for(broker.ids.get(), 10) == job.id


async def test_a_key_whose_job_failed_can_be_tried_again(jobs: Jobs) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    await fail(jobs, job)
    again = await asyncio.gather(*(jobs.enqueue(T, Order(what="tea"), caller="c", key="k") for _ in range(5)))
    assert {(job.id, job.status, job.attempts) for job in again} == {(job.id, "queued", 0)}


async def test_a_key_whose_job_failed_can_be_tried_again_at_a_later_time(jobs: Jobs) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    await fail(jobs, job)
    later = datetime.now(UTC) + timedelta(hours=1)
    again = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k", due=later)
    assert (again.status, again.due) == ("queued", later.timestamp())


async def test_a_time_without_a_zone_is_refused(jobs: Jobs) -> None:
    with pytest.raises(ValueError, match="due: a datetime with a time zone"):
        await jobs.enqueue(T, Order(what="tea"), caller="c", due=datetime(2030, 1, 1))


async def test_a_time_that_is_over_is_now(jobs: Jobs) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", due=datetime(2020, 1, 1, tzinfo=UTC))
    assert job.due == job.created_at


async def test_another_request_that_tries_a_failed_key_at_the_same_moment_gets_the_same_job(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
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


async def test_a_payload_arrives_as_it_was_meant(jobs: Jobs) -> None:
    async def take(context: JobContext, payload: Aliased) -> None: ...

    job = await jobs.enqueue(Task("a", take, Aliased), Aliased(userId=7), caller="c")
    assert Aliased.model_validate_json(await payload_of(jobs, job)).user_id == 7


class Lossy(BaseModel):
    number: float = 0
    secret: SecretStr = SecretStr("")


@pytest.mark.parametrize("payload", [Lossy(number=float("nan")), Lossy(secret=SecretStr("hush"))])
async def test_a_payload_that_json_can_not_carry_is_refused(jobs: Jobs, payload: Lossy) -> None:
    async def take(context: JobContext, payload: Lossy) -> None: ...

    with pytest.raises(ValueError, match="the payload of a is not the same any more"):
        await jobs.enqueue(Task("a", take, Lossy), payload, caller="c")


class LaterOrder(Order):
    milk: bool = False


async def test_the_next_version_knows_the_same_request_by_its_key(jobs: Jobs) -> None:
    async def take(context: JobContext, order: LaterOrder) -> None: ...

    later = Task("t", take, LaterOrder)
    first = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert await jobs.enqueue(later, LaterOrder(what="tea"), caller="c", key="k") == first
    with pytest.raises(Conflict):
        await jobs.enqueue(later, LaterOrder(what="tea", milk=True), caller="c", key="k")


async def test_a_request_has_one_deadline_however_many_calls_it_takes(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object) -> Job:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(queue, "DEADLINE_SECONDS", 0.02)
    monkeypatch.setattr(jobs.store, "create", slow)
    monkeypatch.setattr(jobs.store, "update", slow)
    for call in (
        jobs.enqueue(T, Order(what="tea"), caller="c"),
        jobs.cancel("j", caller="c"),
        jobs.retry("j", caller="c"),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_a_job_whose_result_an_earlier_version_has_kept_can_be_looked_at_though_nobody_can_read_it(
    jobs: Jobs,
) -> None:
    job = await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    succeeded = {"status": "succeeded", "due": None, "ended_at": time.time()}
    await jobs.store.update(job.id, lambda job: job.model_copy(update=succeeded), result="1" * 5000)
    view = await read_job(job.id, jobs, Caller("c"))
    assert view.error is not None
    assert (view.status, view.result, view.error.code) == ("succeeded", None, "job_result")

import asyncio
import logging
import os
import sys
import time
import traceback
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from pydantic_core import to_json

from app.errors import NotFound, Unavailable
from app.jobs import lease, runner
from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.job import Job
from app.jobs.result import BadResult
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.jobs.unfit import Refused
from app.logs import context, request_id
from tests.jobs.fakes import dispatched_job as a_job

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Order(BaseModel):
    what: str


class Numbered(BaseModel):
    what: int


class Receipt(BaseModel):
    what: str
    attempt: int


class Scripted:
    """A task that does as the test says, once for each attempt."""

    def __init__(self, *outcomes: BaseException | asyncio.Event | float | None) -> None:
        self.outcomes = list(outcomes)
        self.begun = asyncio.Event()
        self.cleaned_up = False

    async def __call__(self, context: JobContext, order: Order) -> Receipt:
        self.begun.set()
        context.progress(0.5, "half")
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        try:
            await (outcome.wait() if isinstance(outcome, asyncio.Event) else asyncio.sleep(outcome or 0))
        finally:
            await asyncio.sleep(0)
            self.cleaned_up = True
        return Receipt(what=order.what, attempt=context.attempt)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWALS", 750)
    monkeypatch.setattr(lease, "PROGRESS_SECONDS", 0.01)


async def accepted(
    store: Store,
    script: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    max_attempts: int | None = None,
    timeout: float | None = None,  # noqa: ASYNC109
) -> None:
    monkeypatch.setitem(TASKS, "order", Task("order", script, Order, max_attempts, timeout))
    job = Job(id="j", task="order", fingerprint="f", request_id="r-7", created_at=time.time(), due=0, dispatches=1)
    await store.create(job, '{"what":"tea"}')


async def run_again(store: Store, settings: JobSettings) -> None:
    """As after the pause."""
    await store.update("j", lambda job: job.dispatched(now=time.time() + 60, pause=15))
    await run(store, "j", settings)


async def test_a_job_runs_and_its_result_is_kept(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store, Scripted(), monkeypatch)
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert (job.status, job.attempts, job.progress.fraction, job.progress.message) == ("succeeded", 1, 1.0, "half")
    assert await store.result("j") == '{"what":"tea","attempt":1}'


async def test_a_job_that_fails_is_retried_and_then_succeeds(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store, Scripted(*[RuntimeError()] * 4, None), monkeypatch, max_attempts=5)
    for attempt, pause in ((1, 1), (2, 5), (3, 30), (4, 30)):
        before = time.time()
        await run(store, "j", job_settings)
        job = await store.get("j")
        assert (job.status, job.attempts) == ("retrying", attempt)
        assert job.due is not None
        assert before + pause <= job.due <= time.time() + pause
        await store.update("j", lambda job: job.dispatched(now=time.time() + 60, pause=15))
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert (job.status, job.attempts, job.error) == ("succeeded", 5, None)


async def test_the_last_failure_is_raised_logged_with_the_request_id_and_masked(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await accepted(store, Scripted(*[RuntimeError("the secret")] * 3), monkeypatch)
    await run(store, "j", job_settings)
    await run_again(store, job_settings)
    with pytest.raises(RuntimeError):
        await run_again(store, job_settings)
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.error.code, job.error.request_id) == ("failed", "job_failed", "r-7")
    assert "secret" not in job.model_dump_json()
    assert "the secret" in caplog.text


async def test_a_job_that_takes_too_long_is_ended_and_its_cleanup_is_awaited(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Scripted(60.0)
    await accepted(store, task, monkeypatch)
    await run(store, "j", job_settings.model_copy(update={"job_timeout_seconds": 0.02}))
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.error.code, task.cleaned_up) == ("retrying", "job_timeout", True)


@pytest.mark.parametrize("error", [TimeoutError("not ours"), asyncio.CancelledError(), NotFound("no such order")])
async def test_what_the_body_raises_is_its_own_failure_whatever_it_is(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    await accepted(store, Scripted(error), monkeypatch)
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.error.code) == ("retrying", "job_failed")


@pytest.mark.parametrize(("outcome", "status"), [(None, "succeeded"), (RuntimeError(), "retrying")])
async def test_what_is_done_is_not_done_again_because_the_store_was_away(
    store: Store,
    job_settings: JobSettings,
    monkeypatch: pytest.MonkeyPatch,
    outcome: BaseException | None,
    status: str,
) -> None:
    begin, update, lost = store.begin, store.update, ["running", status]

    def lose(job: Job) -> None:
        if job.status in lost:  # it is written, and the answer does not come
            lost.remove(job.status)
            raise Unavailable("away")

    async def unsteady_begin(*arguments: Any) -> tuple[Job, str]:
        job, payload = await begin(*arguments)
        lose(job)
        return job, payload

    async def unsteady_update(*arguments: Any, **options: Any) -> Job:
        job = await update(*arguments, **options)
        lose(job)
        return job

    monkeypatch.setattr(lease, "STORE_RETRY_SECONDS", 0)
    monkeypatch.setattr(store, "begin", unsteady_begin)
    monkeypatch.setattr(store, "update", unsteady_update)
    await accepted(store, Scripted(outcome), monkeypatch, max_attempts=2)
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert (job.status, job.attempts, lost) == (status, 1, [])


@pytest.mark.usefixtures("quick")
async def test_a_running_job_that_is_cancelled_is_stopped(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Scripted(60.0)
    await accepted(store, task, monkeypatch)
    running = asyncio.create_task(run(store, "j", job_settings))
    await asyncio.wait_for(task.begun.wait(), 5)
    await store.update("j", partial(Job.cancel, now=time.time()))
    await asyncio.wait_for(running, 5)
    assert task.cleaned_up
    assert (await store.get("j")).status == "cancelled"
    assert await store.result("j") is None


@pytest.mark.usefixtures("quick")
async def test_a_running_job_renews_its_lease_and_shows_its_progress(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Scripted(finish := asyncio.Event())
    await accepted(store, task, monkeypatch)
    running = asyncio.create_task(run(store, "j", job_settings))
    await asyncio.wait_for(task.begun.wait(), 5)
    leases: set[float | None] = set()
    while len(leases) < 4:  # the first one and three renewals
        leases.add((job := await store.get("j")).due)
        await asyncio.sleep(0.001)
    assert (job.status, job.progress.message) == ("running", "half")
    finish.set()
    await running
    assert (await store.get("j")).attempts == 1


async def test_progress_that_a_job_makes_at_once_is_shown_at_once(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the first renewal: that is some seconds away."""
    monkeypatch.setattr(lease, "PROGRESS_SECONDS", 0.01)
    await accepted(store, Scripted(finish := asyncio.Event()), monkeypatch)
    running = asyncio.create_task(run(store, "j", job_settings))
    async with asyncio.timeout(job_settings.job_lease_seconds / lease.RENEWALS / 2):
        while (await store.get("j")).progress.message != "half":
            await asyncio.sleep(0.01)
    finish.set()
    await running


@pytest.mark.usefixtures("quick")
async def test_a_renewal_that_is_not_answered_does_not_end_the_attempt(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = Scripted(finish := asyncio.Event())
    await accepted(store, task, monkeypatch)
    update, away = store.update, [True] * 3

    async def unsteady(*arguments: Any, **options: Any) -> Job:
        if task.begun.is_set() and away:
            away.pop()
            raise Unavailable("away")
        return await update(*arguments, **options)

    monkeypatch.setattr(store, "update", unsteady)
    running = asyncio.create_task(run(store, "j", job_settings))
    while away:
        await asyncio.sleep(0.001)
    finish.set()
    await running
    assert (await store.get("j")).status == "succeeded"
    assert caplog.text.count("the lease is not renewed for now") == 1


@pytest.mark.usefixtures("quick")
async def test_a_body_that_does_not_let_itself_be_stopped_is_left_behind_and_told_of(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped, finish = asyncio.Event(), asyncio.Event()

    async def stubborn(context: JobContext, order: Order) -> None:
        try:
            await finish.wait()
        except asyncio.CancelledError:
            stopped.set()
            await finish.wait()

    monkeypatch.setattr(runner, "CLEANUP_SECONDS", 0.05)
    monkeypatch.setitem(TASKS, "order", Task("order", stubborn, Order, timeout=0.02))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    await asyncio.wait_for(run(store, "j", job_settings), 5)
    assert stopped.is_set()
    assert (await store.get("j")).status == "retrying"
    assert "job j was stopped and has not ended 0.05 s later: it is left behind" in caplog.text
    finish.set()


@pytest.mark.usefixtures("quick")
async def test_nobody_else_begins_a_job_while_its_body_cleans_up(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is renewed until then: it may be shorter than a cleanup."""
    renewed = False

    async def thorough(context: JobContext, order: Order) -> None:
        nonlocal renewed
        try:
            await asyncio.sleep(60)
        finally:
            due = (await store.get("j")).due
            while (await store.get("j")).due == due:
                await asyncio.sleep(0.01)
            renewed = True

    monkeypatch.setitem(TASKS, "order", Task("order", thorough, Order, timeout=0.02))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    await run(store, "j", job_settings)
    assert renewed


@pytest.mark.usefixtures("quick")
async def test_a_lease_is_renewed_no_more_when_the_cleanup_is_cancelled_too(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a process: the job is another's then."""
    begun, cleaning, finish = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def thorough(context: JobContext, order: Order) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await finish.wait()

    monkeypatch.setitem(TASKS, "order", Task("order", thorough, Order))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    running = asyncio.create_task(run(store, "j", job_settings))
    for event in (begun, cleaning):
        await event.wait()
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    due = (await store.get("j")).due
    await asyncio.sleep(0.1)  # some renewals long
    assert (await store.get("j")).due == due
    finish.set()


async def test_a_cleanup_that_takes_its_time_is_awaited(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned_up = False

    async def thorough(context: JobContext, order: Order) -> None:
        nonlocal cleaned_up
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            cleaned_up = True

    monkeypatch.setitem(TASKS, "order", Task("order", thorough, Order, timeout=0.02))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    await run(store, "j", job_settings)
    assert cleaned_up


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
async def test_a_body_that_raises_what_is_no_exception_ends_its_attempt_and_nothing_else(
    raised: BaseException,
    store: Store,
    job_settings: JobSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await accepted(store, Scripted(raised), monkeypatch)
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.error.code) == ("retrying", "job_failed")
    assert f"{type(raised).__name__} is no way to fail here" in caplog.text


async def test_a_payload_whose_validation_exits_ends_its_attempt_and_nothing_else(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exits(BaseModel):
        what: str

        @field_validator("what")
        @classmethod
        def _exit(cls, what: str) -> str:
            sys.exit(3)

    async def take(context: JobContext, payload: Exits) -> None: ...

    monkeypatch.setitem(TASKS, "order", Task("order", take, Exits))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    await run(store, "j", job_settings)
    assert (await store.get("j")).status == "retrying"


async def test_progress_that_is_no_utf_8_is_shown_as_well_as_it_can_be(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(context: JobContext, order: Order) -> None:
        context.progress(0.5, os.fsdecode(b"caf\xe9.txt") + "x" * 10_000)

    monkeypatch.setitem(TASKS, "order", Task("order", tell, Order))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert (job.status, job.progress.message[:8], len(job.progress.message)) == ("succeeded", "caf?.txt", 500)


async def test_what_a_job_logs_carries_the_id_of_its_request(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []

    async def log(context: JobContext, order: Order) -> None:
        ids.append(request_id.get())

    monkeypatch.setitem(TASKS, "order", Task("order", log, Order))
    await store.create(a_job("j", task="order", request_id="r-9"), '{"what":"x"}')
    await asyncio.create_task(run(store, "j", job_settings))
    assert ids == ["r-9"]


async def test_a_message_for_a_job_that_is_held_or_ended_or_forgotten_does_nothing(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Scripted(0.05)
    await accepted(store, task, monkeypatch)
    await asyncio.gather(*(run(store, "j", job_settings) for _ in range(3)))
    await run(store, "j", job_settings)
    await run(store, "forgotten", job_settings)
    assert (await store.get("j")).attempts == 1


async def test_a_task_has_limits_of_its_own(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store, Scripted(60.0), monkeypatch, max_attempts=1, timeout=0.02)
    with pytest.raises(runner.OutOfTime):
        await run(store, "j", job_settings)
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.attempts, job.error.code) == ("failed", 1, "job_timeout")


@pytest.mark.parametrize(
    ("task", "payload", "why"),
    [("unheard of", "{}", "There is no task 'unheard of'"), ("order", '{"whatever":1}', "The payload is not a Order")],
)
async def test_a_job_that_this_version_can_not_run_is_given_back_says_why_and_fails_in_the_end(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, task: str, payload: str, why: str
) -> None:
    monkeypatch.setitem(TASKS, "order", Task("order", Scripted(), Order))
    await store.create(a_job("j", task=task), payload)
    await run(store, "j", job_settings)
    await run(store, "j", job_settings)  # a message that comes twice
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.attempts, job.error.code) == ("queued", 0, "job_refused")
    assert why in job.error.message
    with pytest.raises(Refused):
        await run_again(store, job_settings.model_copy(update={"job_unknown_task_seconds": 0}))
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.attempts, job.error.code) == ("failed", 0, "job_refused")


async def test_a_job_of_a_later_version_is_run_by_a_worker_that_knows_its_task(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that task has more attempts than this version would give it, and most of them are behind it."""
    await store.create(a_job("j", task="later", attempts=7, status="retrying"), '{"what":"tea"}')
    await run(store, "j", job_settings)
    assert (await store.get("j")).status == "retrying"
    monkeypatch.setitem(TASKS, "later", Task("later", Scripted(), Order, max_attempts=8))
    await run_again(store, job_settings)
    job = await store.get("j")
    assert (job.status, job.attempts, job.error) == ("succeeded", 8, None)


async def test_of_jobs_that_are_given_back_the_log_has_one_line_a_minute(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: dict[str, float] = {}
    monkeypatch.setattr("app.jobs.unfit._told", told)
    for number in range(50):
        await store.create(a_job(f"j{number}", task="later"), "{}")
        await run(store, f"j{number}", job_settings)
    told.clear()  # as in a process that is there for one job only
    await store.update("j0", lambda job: job.model_copy(update={"dispatches": 1, "unfit_since": time.time() - 30}))
    await run(store, "j0", job_settings)
    (line,) = (record for record in caplog.records if "given back" in record.message)
    why = "There is no task 'later' in this version of the service."
    assert line.message == f"job given back, as others of its task may be, for 0 s so far: {why}"
    assert told_of(line) == ("later", "j0", 1, "given_back")
    await store.update("j0", lambda job: job.model_copy(update={"dispatches": 1, "unfit_since": time.time() - 90}))
    await run(store, "j0", job_settings)
    assert "job given back, as others of its task may be, for 90 s so far" in caplog.text


@pytest.mark.parametrize("result", [None, 1.5, ["a"], {"a": Receipt(what="tea", attempt=1)}])
async def test_a_result_is_whatever_is_json(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, result: Any
) -> None:
    async def give(context: JobContext, order: Order) -> Any:
        return result

    monkeypatch.setitem(TASKS, "order", Task("order", give, Order))
    await store.create(
        Job(id="j", task="order", fingerprint="f", request_id="r", created_at=0, due=0, dispatches=1), '{"what":"x"}'
    )
    await run(store, "j", job_settings)
    assert await store.result("j") == to_json(result).decode()


@pytest.mark.parametrize("result", [object(), [10**5000], float("nan"), ["x" * 2**20]])
async def test_a_result_that_can_not_be_kept_fails_the_job_at_once_and_the_job_says_so(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, result: object
) -> None:
    """The body has done its work: another attempt would do it again, for the same result."""

    async def give(context: JobContext, order: Order) -> object:
        return result

    monkeypatch.setitem(TASKS, "order", Task("order", give, Order))
    await store.create(a_job("j", task="order"), '{"what":"x"}')
    with pytest.raises(BadResult):
        await run(store, "j", job_settings)
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.attempts, job.error.code) == ("failed", 1, "job_result")
    assert job.error.message.startswith("The job's result ")


@pytest.mark.usefixtures("quick")
async def test_a_body_that_blocks_the_event_loop_is_told_of(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def block(context: JobContext, order: Order) -> None:
        for _ in range(5):  # one of which falls between two renewals
            await asyncio.sleep(0.02)
            time.sleep(0.1)  # noqa: ASYNC251
        await asyncio.sleep(0.02)

    monkeypatch.setitem(TASKS, "order", Task("order", block, Order))
    await store.create(
        Job(id="j", task="order", fingerprint="f", request_id="r", created_at=0, due=0, dispatches=1), '{"what":"x"}'
    )
    await run(store, "j", job_settings)
    assert "job j has blocked the event loop for 0.1 s: use asyncio.to_thread" in caplog.text


async def test_a_job_none_of_whose_attempts_came_to_an_end_fails(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    await accepted(store, Scripted(), monkeypatch)
    for _ in range(job_settings.job_max_attempts):
        await store.update("j", lambda job: job.begin("dead", now=0, lease=0, max_attempts=99))
        await store.update("j", lambda job: job.dispatched(now=time.time(), pause=0))
    await run(store, "j", job_settings)
    job = await store.get("j")
    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "attempts_lost")
    (line,) = caplog.records
    assert line.message == "job failed: the last of its 3 attempts was lost"
    assert told_of(line) == ("order", "j", 3, "failed")


@pytest.mark.parametrize(
    ("outcome", "max_attempts", "level", "told"),
    [
        (None, 2, "INFO", "succeeded"),
        (RuntimeError("on purpose"), 2, "ERROR", "retrying"),
        (RuntimeError("on purpose"), 1, "ERROR", "failed"),
        (5.0, 1, "ERROR", "failed"),
    ],
    ids=["success", "failure", "last failure", "time over"],
)
async def test_an_attempt_says_once_how_it_has_ended_and_whose_it_was(
    store: Store,
    job_settings: JobSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: BaseException | float | None,
    max_attempts: int,
    level: str,
    told: str,
) -> None:
    caplog.set_level("INFO", "app")
    whose: list[dict[str, str]] = []

    def note(_: logging.LogRecord) -> bool:
        whose.append(context())
        return True

    caplog.handler.addFilter(note)
    await accepted(store, Scripted(outcome), monkeypatch, max_attempts, timeout=0.05)
    whose_it_is = {"caller": "alice", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    await store.update("j", lambda job: job.model_copy(update=whose_it_is))
    with suppress(RuntimeError, runner.OutOfTime):
        await run(store, "j", job_settings)
    caplog.handler.removeFilter(note)
    (line,) = caplog.records
    assert line.levelname == level
    assert line.message.startswith("job succeeded" if level == "INFO" else "job failed")
    assert told_of(line) == ("order", "j", 1, told)
    assert bool(line.exc_info) == (level == "ERROR")
    assert whose == [{"request_id": "r-7", "caller": "alice", "trace_id": TRACE}]


@pytest.mark.parametrize("outcome", ["cancelled", "lost"])
async def test_an_attempt_that_may_not_go_on_says_why(
    store: Store,
    job_settings: JobSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quick: None,
    outcome: str,
) -> None:
    caplog.set_level("INFO", "app.telemetry")
    script = Scripted(asyncio.Event())
    await accepted(store, script, monkeypatch)
    running = asyncio.create_task(run(store, "j", job_settings))
    await script.begun.wait()
    if outcome == "cancelled":
        await store.update("j", partial(Job.cancel, now=time.time()))
    else:
        await store.update("j", lambda job: job.dispatched(now=job.due or 0, pause=15))
    await running
    (line,) = [record for record in caplog.records if record.name == "app.telemetry"]  # a busy machine blocks the loop
    assert line.levelname == {"cancelled": "INFO", "lost": "WARNING"}[outcome]
    assert line.message.startswith(f"job {outcome}: ")
    assert told_of(line) == ("order", "j", 1, outcome)


async def test_a_payload_that_does_not_fit_is_quoted_nowhere(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised is logged by a queue's library, with its causes."""
    await accepted(store, Scripted(), monkeypatch)
    monkeypatch.setitem(TASKS, "order", Task("order", Scripted(), Numbered))
    with pytest.raises(Refused) as raised:
        await run(store, "j", job_settings.model_copy(update={"job_unknown_task_seconds": 0}))
    shown = "".join(traceback.format_exception(raised.value))
    assert "is not a Numbered" in shown
    assert "tea" not in shown


async def test_the_last_failure_names_its_job_to_who_shows_it_again(
    store: Store, job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store, Scripted(RuntimeError("on purpose")), monkeypatch, max_attempts=1)
    with pytest.raises(RuntimeError) as raised:
        await run(store, "j", job_settings)
    assert raised.value.__notes__ == ["job j, attempt 1, request r-7"]


def told_of(line: logging.LogRecord) -> tuple[object, ...]:
    fields = vars(line)
    assert 0 <= fields["seconds"] < 60
    return fields["task"], fields["job"], fields["attempt"], fields["outcome"]

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from app.jobs.definition import TASKS, JobContext, Task, limits, task
from app.jobs.settings import MAX_ATTEMPTS, MAX_TIMEOUT_SECONDS, JobSettings


class Order(BaseModel):
    what: str


@pytest.fixture(autouse=True)
def tasks_are_as_before() -> Iterator[None]:
    before = dict(TASKS)
    yield
    TASKS.clear()
    TASKS.update(before)


async def test_a_function_becomes_a_task_and_can_still_be_called() -> None:
    @task(max_attempts=5, timeout=60)
    async def brew(context: JobContext, order: Order) -> str:
        return f"{order.what}, attempt {context.attempt}"

    assert TASKS["brew"] is brew
    assert (brew.payload, brew.max_attempts, brew.timeout) == (Order, 5, 60)
    assert await brew(JobContext("k", 1), Order(what="tea")) == "tea, attempt 1"


def test_limits_are_the_task_s_own_or_the_settings(job_settings: JobSettings) -> None:
    async def brew(context: JobContext, order: Order) -> None: ...

    TASKS["a"] = Task("a", brew, Order, max_attempts=7, timeout=0.5)
    TASKS["b"] = Task("b", brew, Order)
    usual = (job_settings.job_max_attempts, job_settings.job_timeout_seconds)
    assert [limits(name, job_settings) for name in ("a", "b")] == [(7, 0.5), usual]


def test_the_limits_of_a_task_that_only_another_version_knows_may_be_anything(job_settings: JobSettings) -> None:
    assert limits("unheard of", job_settings) == (MAX_ATTEMPTS, MAX_TIMEOUT_SECONDS)


def not_async(context: JobContext, order: Order) -> None: ...
async def no_payload(context: JobContext) -> None: ...
async def no_context(order: Order, other: Order) -> None: ...
async def no_model(context: JobContext, order: str) -> None: ...
async def no_types(context, order): ...  # type: ignore[no-untyped-def]
async def too_many(context: JobContext, order: Order, other: int) -> None: ...


@pytest.mark.parametrize("function", [not_async, no_payload, no_context, no_model, no_types, too_many])
def test_what_could_never_run_is_refused_by_its_name(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=f"task {function.__name__}: it must be `async def {function.__name__}"):
        task()(function)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": MAX_ATTEMPTS + 1},
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": MAX_TIMEOUT_SECONDS + 1},
        {"timeout": math.inf},
        {"timeout": math.nan},
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    async def brew(context: JobContext, order: Order) -> None: ...

    with pytest.raises(ValueError, match=f"task brew: {next(iter(wrong))} is "):
        task(**wrong)(brew)


def test_a_name_that_is_taken_is_refused() -> None:
    async def brew(context: JobContext, order: Order) -> None: ...

    task()(brew)
    with pytest.raises(ValueError, match="task brew: there is one of that name already"):
        task()(brew)


@pytest.mark.parametrize(("given", "kept"), [(0.5, 0.5), (-1, 0), (7, 1), (math.nan, 0)])
def test_progress_is_kept_within_its_range(given: float, kept: float) -> None:
    context = JobContext("k", 1)
    context.progress(given, "x")
    assert context.latest.fraction == kept

"""What a job is to those who write one: `@task` and the context that its function is given."""

import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel

from app.jobs.job import Progress
from app.jobs.settings import JobSettings

MESSAGE_CHARS = 500

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


class JobContext:
    def __init__(self, key: str, attempt: int) -> None:
        self.key = key  # the job's id, the same on each attempt
        self.attempt = attempt  # from 1
        self.latest = Progress()

    def progress(self, fraction: float, message: str = "") -> None:
        """`fraction` from 0 to 1. Cheap, callable from any thread: the runner writes it, at most 4 times a second."""
        message = message[:MESSAGE_CHARS].encode("utf-8", "replace").decode()  # a file's name may not be UTF-8
        self.latest = Progress(fraction=max(0.0, min(1.0, fraction)), message=message)


@dataclass(frozen=True)
class Task(Generic[P, R]):
    """A function with its limits; called, it is the function. None stands for the setting: JOB_MAX_ATTEMPTS, or
    JOB_TIMEOUT_SECONDS for each attempt."""

    name: str
    function: Callable[[JobContext, P], Awaitable[R]]
    payload: type[P]
    max_attempts: int | None = None
    timeout: float | None = None

    def __call__(self, context: JobContext, payload: P) -> Awaitable[R]:
        return self.function(context, payload)


TASKS: dict[str, Task[Any, Any]] = {}


def task(
    *, max_attempts: int | None = None, timeout: float | None = None
) -> Callable[[Callable[[JobContext, P], Awaitable[R]]], Task[P, R]]:
    """Makes an async function of a JobContext and a Pydantic model a task, known by its name: whoever renames it must
    let the jobs of the old name end first. What it returns is kept as JSON. `timeout` is in seconds.

    Raises TypeError or ValueError, with the function's name, for what could never run.
    """

    def register(function: Callable[[JobContext, P], Awaitable[R]]) -> Task[P, R]:
        name = function.__name__
        hints = get_type_hints(function)
        types: list[Any] = [hints.get(parameter) for parameter in inspect.signature(function).parameters]
        right = len(types) == 2 and types[0] is JobContext and isinstance(types[1], type(BaseModel))
        if not (right and inspect.iscoroutinefunction(function)):
            raise TypeError(f"task {name}: it must be `async def {name}(context: JobContext, payload: <a BaseModel>)`")
        if name in TASKS:
            raise ValueError(f"task {name}: there is one of that name already")
        if (max_attempts is not None and max_attempts < 1) or (timeout is not None and not 0 < timeout < math.inf):
            raise ValueError(f"task {name}: max_attempts is at least 1, and timeout more than 0 seconds, and finite")
        TASKS[name] = Task(name, function, types[1], max_attempts, timeout)
        return TASKS[name]

    return register


class Limits(NamedTuple):
    max_attempts: int
    timeout: float  # seconds, of each attempt


def limits(name: str, settings: JobSettings) -> Limits:
    """The task's own limits or, where it has none, those of the settings."""
    task = TASKS.get(name)
    return Limits(
        (task and task.max_attempts) or settings.job_max_attempts,
        (task and task.timeout) or settings.job_timeout_seconds,
    )

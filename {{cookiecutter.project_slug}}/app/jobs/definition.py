"""What those who write a job use: `@task`, and the context that the job's function is given."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, ValidationError

from app.jobs.settings import MAX_ATTEMPTS, MAX_TIMEOUT_SECONDS, JobSettings
from app.jobs.status import Progress

MESSAGE_CHARS = 500

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


class JobContext:
    """What a job's function knows of its attempt.

    `key` is the job's id, and the same on each attempt. `attempt` is the number of this one, from 1.
    """

    def __init__(self, key: str, attempt: int) -> None:
        self.key = key
        self.attempt = attempt
        self.latest = Progress()

    def progress(self, fraction: float, message: str = "") -> None:
        """Tells those who follow the job how far it is.

        `fraction` is from 0 to 1. `message` is cut after 500 characters. A call costs little, and may come from any
        thread: the latest progress is written at most four times a second.
        """
        message = message[:MESSAGE_CHARS].encode("utf-8", "replace").decode()  # a file's name may not be UTF-8
        self.latest = Progress(fraction=min(1.0, max(0.0, fraction)), message=message)  # a NaN is 0


@dataclass(frozen=True)
class Task(Generic[P, R]):
    """A job's function with its limits. To call the task is to call the function.

    A limit that is None is that of the settings.
    """

    name: str
    function: Callable[[JobContext, P], Awaitable[R]]
    payload: type[P]
    max_attempts: int | None = None
    timeout: float | None = None  # seconds, of each attempt

    def __call__(self, context: JobContext, payload: P) -> Awaitable[R]:
        return self.function(context, payload)

    def to_text(self, payload: P) -> str:
        """As JSON. Raises ValueError if a worker would not read the same from it: then no attempt could be right."""
        text = payload.model_dump_json(by_alias=True, round_trip=True)
        try:
            same = self.payload.model_validate_json(text) == payload
        except ValidationError:
            same = False
        if not same:
            raise ValueError(f"the payload of {self.name} is not the same any more once it has been JSON")
        return text


TASKS: dict[str, Task[Any, Any]] = {}


def task(
    *, max_attempts: int | None = None, timeout: float | None = None
) -> Callable[[Callable[[JobContext, P], Awaitable[R]]], Task[P, R]]:
    """Makes an async function a task, whose jobs can be enqueued.

        @task()                               the limits of the settings
        @task(max_attempts=1)                 never tried again
        @task(max_attempts=5, timeout=60.0)   five attempts, each of a minute at most

    The function takes a JobContext and a Pydantic model, the payload. What it returns is kept as JSON. Its name is the
    task's name in every record: let the jobs of the old name end before you rename it.

    `max_attempts` is how often a job is tried before it has failed: at least once, by default JOB_MAX_ATTEMPTS times.
    `timeout` is how many seconds one attempt may take, by default JOB_TIMEOUT_SECONDS.

    Raises TypeError for another kind of function, and ValueError for a name that is taken or a limit out of range. The
    function's name is in the message.
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
        if max_attempts is not None and not 1 <= max_attempts <= MAX_ATTEMPTS:
            raise ValueError(f"task {name}: max_attempts is from 1 to {MAX_ATTEMPTS}")
        if timeout is not None and not 0 < timeout <= MAX_TIMEOUT_SECONDS:
            raise ValueError(f"task {name}: timeout is more than 0 seconds, and at most {MAX_TIMEOUT_SECONDS:.0f}")
        TASKS[name] = Task(name, function, types[1], max_attempts, timeout)
        return TASKS[name]

    return register


class Limits(NamedTuple):
    max_attempts: int
    timeout: float  # seconds, of each attempt


def limits(name: str, settings: JobSettings) -> Limits:
    """The task's own limits or, where it has none, those of the settings. Those of a task that only another version of
    this service knows may be anything."""
    task = TASKS.get(name)
    if task is None:
        return Limits(MAX_ATTEMPTS, MAX_TIMEOUT_SECONDS)
    return Limits(task.max_attempts or settings.job_max_attempts, task.timeout or settings.job_timeout_seconds)

"""A worker's process that tells of what it does: `python -m tests.jobs.telling attempts`, `forks` or `floods`."""

import asyncio
import os
import signal
import sys
import threading
from functools import partial
from typing import Any

from opentelemetry import trace

from app import telemetry
from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.job import Job
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.otel import forks
from tests.jobs.fakes import Broker, Jobs, Order

FLOOD = 5000
tracer = trace.get_tracer("tests")


async def do(context: JobContext, order: Order) -> None:
    with tracer.start_as_current_span(order.what, record_exception=False, set_status_on_exception=False):
        if order.what == "fails once" and context.attempt == 1:
            raise RuntimeError("a s3cret")
        if order.what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)


TASKS["do"] = DO = Task("do", do, Order)


async def accepted(jobs: Jobs, what: str) -> Job:
    with tracer.start_as_current_span("a request"):
        return await jobs.enqueue(DO, Order(what=what), caller="c")


async def attempt(store: Store, job: Job) -> None:
    now = await store.now()
    await store.update(job.id, partial(Job.dispatched, now=now + 60, pause=15))
    await run(store, job.id, JobSettings.read())


async def attempts() -> None:
    """The first fails, the second is made by a process that dies, the third succeeds."""
    async with Store.open(JobSettings.read()) as store:
        jobs = Jobs(store, Broker())
        job = await accepted(jobs, "fails once")
        await attempt(store, job)
        now = await store.now()
        await store.update(job.id, partial(Job.dispatched, now=now + 60, pause=15))
        await store.update(job.id, partial(Job.begin, holder="dead", now=now, lease=0, max_attempts=3))
        await jobs.relay.dispatch_due()
        await run(store, job.id, JobSettings.read())
        assert (await store.get(job.id)).status == "succeeded"


async def made(job: Job | None, what: str) -> None:
    async with Store.open(JobSettings.read()) as store:
        job = job or await accepted(Jobs(store, Broker()), what)
        await attempt(store, job)


def fork(work: Any, *arguments: Any) -> int:
    """How that has ended, in a fork that ends at once then."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(bool(asyncio.run(work(*arguments))))


def floods() -> None:
    """Of a fork that tells more than the pipe takes while nobody reads it."""
    reads, came, stopped = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []
    dropped: list[int] = []

    def take(number: int) -> None:
        reads.wait()
        seen.append(number)
        if number == FLOOD:
            came.set()
            stopped.wait()

    forks.listen({"number": take, "dropped": dropped.append})
    ready, tell = os.pipe()
    if not (child := os.fork()):
        for number in range(FLOOD):
            forks.hand_over("number", number)
        os.write(tell, b"!")
        while True:  # until there is room again
            forks.hand_over("number", FLOOD)
    os.read(ready, 1)  # the fork was not held up
    reads.set()
    came.wait()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = seen[:-1]
    assert told == sorted(set(told))
    assert len(told) < FLOOD <= len(told) + sum(dropped)
    stopped.set()


if __name__ == "__main__":
    if sys.argv[1] == "floods":
        floods()
    else:
        telemetry.set_up_worker("INFO", "text")
    if sys.argv[1] == "attempts":
        asyncio.run(attempts())
    if sys.argv[1] == "forks":
        assert [fork(made, None, what) for what in ("succeeds", "dies", "fails once")] == [0, -signal.SIGKILL, 0]

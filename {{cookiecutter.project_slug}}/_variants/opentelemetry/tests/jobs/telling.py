"""A worker's process that tells of what it does: `python -m tests.jobs.telling attempts`, or another name below."""

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Any, cast

from opentelemetry import metrics, trace

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
    with tracer.start_as_current_span(order.what, record_exception=False, set_status_on_exception=False) as span:
        if forks.is_fork():
            span.set_attribute("raw", b"\xff")  # which is no JSON
        if order.what == "fails once" and context.attempt == 1:
            raise RuntimeError("a s3cret")
        if order.what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if order.what == "waits":
            begun.set()
            await asyncio.sleep(60)
        if order.what == "fails too late":
            await opened[0].update(context.key, lambda job: job.dispatched(job.due or 0, pause=15))
            raise RuntimeError("too late")


begun = asyncio.Event()
opened: list[Store] = []
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


async def again() -> None:
    """Its only attempt fails, and a caller has it run again."""
    settings = JobSettings(job_max_attempts=1)
    async with Store.open(settings) as store:
        jobs = Jobs(store, Broker())
        job = await accepted(jobs, "fails once")
        for _ in range(2):
            await store.update(job.id, partial(Job.dispatched, now=await store.now() + 60, pause=15))
            with suppress(RuntimeError):
                await run(store, job.id, settings)
            await jobs.retry(job.id, caller="c")


async def interrupted() -> None:
    """As a server does that runs jobs itself, when its drain time is over."""
    made_now = asyncio.create_task(made("waits"))
    await begun.wait()
    made_now.cancel()
    await asyncio.wait({made_now})


async def made(what: str) -> None:
    async with Store.open(JobSettings.read()) as store:
        opened.append(store)
        await attempt(store, await accepted(Jobs(store, Broker()), what))


def fork(work: Any, *arguments: Any) -> int:
    """How that has ended, in a fork that ends at once then."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(bool(asyncio.run(work(*arguments))))


async def flushed() -> None:
    """As the SDK would do from time to time, in each process that has its threads."""
    for provider in cast(tuple[Any, Any], (metrics.get_meter_provider(), trace.get_tracer_provider())):
        provider.force_flush()


def copies() -> None:
    """What was measured before the fork is in the fork too."""
    telemetry.job_accepted("do", "j")
    with tracer.start_as_current_span("before"):
        pass
    assert fork(flushed) == 0


def floods() -> None:
    """Of a fork that tells more than the pipe takes while nobody reads it."""
    reads, all_told = threading.Event(), threading.Event()
    came: list[int] = []
    dropped: list[int] = []

    def take(number: int, of: list[int]) -> None:
        reads.wait()
        if number < FLOOD or of is dropped:
            of.append(number)
        if len(came) + sum(dropped) >= FLOOD:  # of the last ones, too, some are dropped
            all_told.set()

    forks.listen({"number": partial(take, of=came), "dropped": partial(take, of=dropped)})
    ready, tell = os.pipe()
    if not (child := os.fork()):
        for number in range(FLOOD):
            forks.hand_over("number", number)
        os.write(tell, b"!")
        while True:  # until there is space again
            forks.hand_over("number", FLOOD)
    try:
        os.read(ready, 1)  # the fork was not held up
        reads.set()
        assert all_told.wait(30)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert came == sorted(set(came))
    assert 0 < len(came) < FLOOD


if __name__ == "__main__":
    if sys.argv[1] == "floods":
        floods()
    else:
        telemetry.set_up_worker("INFO", "text")
    if sys.argv[1] == "late":
        asyncio.run(made("fails too late"))
    if sys.argv[1] == "copies":
        copies()
    if sys.argv[1] == "attempts":
        asyncio.run(attempts())
    if sys.argv[1] == "interrupted":
        asyncio.run(interrupted())
    if sys.argv[1] == "again":
        asyncio.run(again())
    if sys.argv[1] == "forks":
        assert [fork(made, what) for what in ("succeeds", "dies", "fails once")] == [0, -signal.SIGKILL, 0]

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from pydantic import RedisDsn
from rq import Queue, SimpleWorker, SpawnWorker
from rq.registry import FailedJobRegistry

from app.jobs import backend, signs
from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.enduring import ForkWorker, rq_worker
from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from app.jobs.workers import live_workers, rq_queue
from app.worker import set_up
from tests.jobs.fakes import opened
from tests.jobs.test_store import a_job

DOCUMENT = Document(title="t", text="x")


@pytest.fixture
def settings(job_settings: JobSettings) -> JobSettings:
    """A queue that no worker listens to."""
    return job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}", "job_max_attempts": 1})


@pytest.fixture
def queue(settings: JobSettings) -> Queue:
    return rq_queue(settings, redis.Redis.from_url(str(settings.redis_url)))


async def dispatched(queue: Queue) -> None:
    while not queue.job_ids:
        await asyncio.sleep(0.01)


async def test_an_accepted_job_becomes_one_rq_job_that_carries_its_id(settings: JobSettings, queue: Queue) -> None:
    async with opened(settings) as jobs:
        job = await jobs.enqueue(index_document, DOCUMENT, caller="c")
        await asyncio.wait_for(dispatched(queue), 10)
    (message,) = queue.jobs
    assert (message.func_name, message.args) == ("app.worker.run_job", [job.id])
    assert message.timeout == settings.job_timeout_seconds + backend.TIMEOUT_MARGIN_SECONDS


async def test_rq_gives_a_job_more_time_than_its_task_has(
    settings: JobSettings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(context: JobContext, document: Document) -> None: ...

    monkeypatch.setitem(TASKS, "slow", task := Task("slow", slow, Document, timeout=7200))
    async with opened(settings) as jobs:
        await jobs.enqueue(task, DOCUMENT, caller="c")
        await asyncio.wait_for(dispatched(queue), 10)
    assert queue.jobs[0].timeout == 7200 + backend.TIMEOUT_MARGIN_SECONDS


async def test_what_waits_for_a_worker_is_bounded_and_the_rest_waits_in_the_store(
    settings: JobSettings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.RQBackend, "limit", 3)
    async with opened(settings) as jobs:
        for _ in range(5):
            await jobs.enqueue(index_document, DOCUMENT, caller="c")
        while queue.count < 3:
            await asyncio.sleep(0.01)
        assert await jobs.relay.dispatch_due() == 0
        assert queue.count == 3
        queue.connection.delete(queue.key)
        while queue.count < 2:
            await asyncio.sleep(0.01)


async def test_a_redis_that_stalls_does_not_stall_the_event_loop(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled, goes_on = threading.Event(), threading.Event()

    def stall(*_: object) -> None:
        stalled.set()
        goes_on.wait(5)

    monkeypatch.setattr(Queue, "enqueue_many", stall)
    async with opened(settings) as jobs:
        dispatching = asyncio.create_task(jobs.backend.dispatch([await jobs.store.create(a_job(), "{}")]))
        while not stalled.is_set():
            await asyncio.sleep(0)
        assert not dispatching.done()
        goes_on.set()
        await dispatching


@pytest.fixture
def signals() -> Iterator[None]:
    """A worker in this process leaves its signal handlers behind, and what it has read."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    set_up.cache_clear()


@pytest.mark.usefixtures("signals")
def test_the_last_failure_shows_in_rqs_own_tools(
    settings: JobSettings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(context: JobContext, document: Document) -> Document:
        raise RuntimeError("on purpose")

    task = Task("fails", fails, Document)

    async def accept() -> None:
        async with opened(settings) as jobs:
            await jobs.enqueue(task, DOCUMENT, caller="c")
            await asyncio.wait_for(dispatched(queue), 10)

    monkeypatch.setitem(TASKS, "fails", task)
    for name in ("queue_name", "redis_url", "job_max_attempts"):
        monkeypatch.setenv(name.upper(), str(getattr(settings, name)))
    asyncio.run(accept())
    rq_worker(settings, SimpleWorker).work(burst=True)  # in this process, so that it knows the task above
    (failed,) = FailedJobRegistry(queue=queue).get_job_ids()
    message = queue.fetch_job(failed)
    assert message is not None
    result = message.latest_result()
    assert result is not None
    assert "on purpose" in str(result.exc_string)


@pytest.mark.usefixtures("signals")
def test_a_job_runs_in_a_process_that_is_spawned(settings: JobSettings, queue: Queue) -> None:
    """As on macOS, where nothing is forked."""

    async def accept() -> str:
        async with opened(settings) as jobs:
            job = await jobs.enqueue(index_document, DOCUMENT, caller="c")
            await asyncio.wait_for(dispatched(queue), 10)
            return job.id

    async def status(job_id: str) -> str:
        async with opened(settings) as jobs:
            return (await jobs.get(job_id, caller="c")).status

    with pytest.MonkeyPatch.context() as patch:
        for name in ("queue_name", "redis_url", "job_max_attempts"):
            patch.setenv(name.upper(), str(getattr(settings, name)))
        job_id = asyncio.run(accept())
        rq_worker(settings, SpawnWorker).work(burst=True)
    assert asyncio.run(status(job_id)) == "succeeded"


def test_a_worker_that_redis_forgot_in_an_outage_is_alive_when_it_shows_itself(
    settings: JobSettings, queue: Queue
) -> None:
    worker = rq_worker(settings, ForkWorker)
    worker.register_birth()  # type: ignore[no-untyped-call]
    queue.connection.delete(worker.key, f"rq:workers:{queue.name}")
    worker.heartbeat()
    assert live_workers(queue) == 1
    assert signs.live_workers(settings, socket.gethostname()) == 1
    worker.register_death()  # type: ignore[no-untyped-call]


async def test_workers_that_rq_can_not_read_hide_no_other(settings: JobSettings, queue: Queue) -> None:
    worker = rq_worker(settings, SimpleWorker)
    worker.register_birth()  # type: ignore[no-untyped-call]
    workers = f"rq:workers:{settings.queue_name}"
    queue.connection.sadd(workers, b"\xff", "junk", "rq:worker:gone")
    queue.connection.hset(worker.key, "birth", b"\xff")
    assert signs.live_workers(settings, socket.gethostname()) == 1
    async with opened(settings) as jobs:
        assert await jobs.backend.checks() == {"redis": "ok", "worker": "ok"}
    queue.connection.delete(workers, worker.key)


async def test_a_missing_worker_is_degraded(settings: JobSettings) -> None:
    async with opened(settings) as jobs:
        assert await jobs.backend.checks() == {"redis": "ok", "worker": "degraded: none is alive, accepted jobs wait"}


async def test_a_missing_redis_is_degraded_and_in_time() -> None:
    settings = JobSettings(_env_file=None, redis_url=RedisDsn("redis://127.0.0.1:1/0"))
    began = time.monotonic()
    async with opened(settings) as jobs:
        checks = await jobs.backend.checks()
    assert checks["redis"].startswith("degraded: ")
    assert time.monotonic() - began < 5

"""A worker process outlives what ends RQ's own loop."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.jobs.enduring import Backoff, ForkWorker, rq_worker
from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from tests.jobs.fakes import opened
from tests.server import ROOT


class Worker:
    """A process, and what it says."""

    def __init__(self, settings: JobSettings) -> None:
        own = {"QUEUE_NAME": settings.queue_name, "REDIS_URL": str(settings.redis_url)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.worker"],
            cwd=ROOT,
            env={**os.environ, **own},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def says(self, text: str, times: int = 1) -> None:
        with self._news:
            assert self._news.wait_for(lambda: "".join(self.lines).count(text) >= times, 60), "".join(self.lines)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0
        self._reader.join()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()


@pytest.fixture(scope="module")
def settings(job_settings: JobSettings) -> JobSettings:
    return job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})


@pytest.fixture
def user(settings: JobSettings) -> Iterator[str]:
    """One of Redis, whose rights can be taken away: the server is that of all tests."""
    name = f"user-{uuid4().hex[:8]}"
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        client.execute_command("ACL", "SETUSER", name, "on", ">secret", "+@all", "~*", "&*")
        yield name
        client.execute_command("ACL", "DELUSER", name)


@contextmanager
def working(settings: JobSettings) -> Iterator[Worker]:
    worker = Worker(settings)
    try:
        worker.says("RQ's worker listens")
        yield worker
        worker.stop()
    finally:
        worker.kill()


@pytest.fixture(scope="module")
def worker(settings: JobSettings) -> Iterator[Worker]:
    """One for all tests that it outlives."""
    with working(settings) as worker:
        yield worker


async def done(settings: JobSettings) -> str:
    """The id of a job that a worker has done."""
    async with opened(settings) as jobs, asyncio.timeout(60):
        job = await jobs.enqueue(index_document, Document(title="t", text="x"), caller="c")
        while (job := await jobs.get(job.id, caller="c")).status != "succeeded":
            await asyncio.sleep(0.05)
        assert job.attempts == 1
        return job.id


def test_a_worker_waits_while_redis_refuses_and_says_so_once(job_settings: JobSettings, user: str) -> None:
    restricted = str(job_settings.redis_url).replace("redis://", f"redis://{user}:secret@")
    own = {"redis_url": restricted, "queue_name": f"test-{uuid4().hex[:8]}"}
    settings = job_settings.model_copy(update=own)
    with working(settings) as worker, redis.Redis.from_url(str(job_settings.redis_url)) as client:
        client.execute_command("ACL", "SETUSER", user, "-@write")
        client.client_kill_filter(_type="normal", user=user)  # else it would wait for a job for 15 s first
        waiting = "no permissions to run the 'set' command"
        worker.says(waiting)
        client.execute_command("ACL", "SETUSER", user, "+@all")
        worker.says("RQ's worker listens", times=2)
        asyncio.run(done(settings))
    assert "".join(worker.lines).count(waiting) == 1


def test_a_worker_that_stops_waits_for_no_redis(settings: JobSettings, caplog: pytest.LogCaptureFixture) -> None:
    worker = rq_worker(settings, ForkWorker)
    retry = Retry(Backoff(cap=0, base=0), 30)
    worker.connection = redis.Redis.from_url("redis://127.0.0.1:1/0", retry=retry)
    with pytest.raises(redis.ConnectionError):
        worker.register_death()  # type: ignore[no-untyped-call]
    assert "trying again" not in caplog.text


def test_a_worker_asks_no_redis_whether_it_is_suspended(settings: JobSettings) -> None:
    """`rq suspend` holds up the workers of all who share a Redis."""
    worker = rq_worker(settings, ForkWorker)
    worker.connection = redis.Redis.from_url("redis://127.0.0.1:1/0", retry=Retry(NoBackoff(), 0))  # it would raise
    worker.check_for_suspension(burst=False)


def test_a_worker_that_is_told_to_stop_waits_for_its_job_though_redis_refuses(
    job_settings: JobSettings, user: str
) -> None:
    restricted = str(job_settings.redis_url).replace("redis://", f"redis://{user}:secret@")
    own = {"redis_url": restricted, "queue_name": f"test-{uuid4().hex[:8]}"}
    settings = job_settings.model_copy(update=own)

    async def running() -> str:
        async with opened(settings) as jobs, asyncio.timeout(60):
            document = Document(title="t", text="word " * 1_000_000)
            job = await jobs.enqueue(index_document, document, caller="c")
            while (await jobs.get(job.id, caller="c")).status != "running":
                await asyncio.sleep(0.01)
            return job.id

    async def is_done(job_id: str) -> bool:
        async with opened(settings) as jobs:
            return (await jobs.get(job_id, caller="c")).status == "succeeded"

    with working(settings) as worker, redis.Redis.from_url(str(job_settings.redis_url)) as client:
        job_id = asyncio.run(running())
        client.execute_command("ACL", "SETUSER", user, "-@write")
        worker.process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(1)
        client.execute_command("ACL", "SETUSER", user, "+@all")
        assert worker.process.wait(60) == 0
        assert asyncio.run(is_done(job_id))


def test_a_worker_obeys_no_commands_that_come_over_redis(settings: JobSettings, worker: Worker) -> None:
    with redis.Redis.from_url(str(settings.redis_url), decode_responses=True) as client:
        (name,) = [key.removeprefix("rq:worker:") for key in client.smembers(f"rq:workers:{settings.queue_name}")]
        assert client.publish(f"rq:pubsub:{name}", json.dumps({"command": "shutdown"})) == 0
    asyncio.run(done(settings))


def test_a_worker_goes_on_behind_an_id_that_is_no_text(settings: JobSettings, worker: Worker) -> None:
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        client.rpush(f"rq:queue:{settings.queue_name}", *[b"\xff"] * 100)
    worker.says("an id in RQ's queue is dropped: it is no text", times=100)
    asyncio.run(done(settings))
    assert "".join(worker.lines).count("RQ's worker listens") == 1  # it was not begun again each time


def test_the_log_says_once_how_a_job_has_ended(settings: JobSettings, worker: Worker) -> None:
    """RQ says that it is OK, also of one that is tried again."""
    ended, next_one = (asyncio.run(done(settings)) for _ in range(2))
    worker.says(next_one)  # so all is said of the one before
    assert sum(ended in line and " outcome=succeeded" in line for line in worker.lines) == 1
    assert "Job OK" not in "".join(worker.lines)


def test_a_registry_of_another_kind_keeps_a_worker_from_nothing(job_settings: JobSettings) -> None:
    settings = job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        client.set(f"rq:failed:{settings.queue_name}", "of another kind")
        with working(settings) as worker:
            worker.says("RQ's maintenance has failed")
            asyncio.run(done(settings))
        client.delete(f"rq:failed:{settings.queue_name}")

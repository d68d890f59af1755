import asyncio
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from pydantic import RedisDsn

from app.jobs import backend
from app.jobs.broker import Sender
from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from tests.jobs.fakes import opened
from tests.jobs.test_store import a_job

DOCUMENT = Document(title="t", text="x")


@pytest.fixture
def settings(job_settings: JobSettings) -> JobSettings:
    """A queue that no worker listens to."""
    return job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})


@pytest.fixture
def sender(settings: JobSettings) -> Iterator[Sender]:
    """A second connection, to look at what the broker has."""
    sender = Sender(settings)
    yield sender
    sender.close()


async def counted(sender: Sender, number: int) -> None:
    """A broker may leave out of its count what it was sent a moment ago."""
    async with asyncio.timeout(10):
        while await asyncio.to_thread(sender.waiting) != number:
            await asyncio.sleep(0.02)


async def test_an_accepted_job_becomes_one_message(settings: JobSettings, sender: Sender) -> None:
    async with opened(settings) as jobs:
        assert await jobs.backend.waiting() == 0
        await jobs.enqueue(index_document, DOCUMENT, caller="c")
        await counted(sender, 1)
        assert await jobs.backend.waiting() == 1


async def test_what_waits_for_a_worker_is_bounded_and_the_rest_waits_in_the_store(
    settings: JobSettings, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend.BrokerBackend, "limit", 3)
    async with opened(settings) as jobs:
        for number in range(1, 4):
            await jobs.enqueue(index_document, DOCUMENT, caller="c")
            await counted(sender, number)
        rest = {(await jobs.enqueue(index_document, DOCUMENT, caller="c")).id for _ in range(2)}
        assert await jobs.relay.dispatch_due() == 0
        assert {*await jobs.store.due(time.time(), 10)} == rest  # a look at what is dispatched is due later
    assert sender.waiting() == 3


async def test_a_broker_that_stalls_does_not_stall_the_event_loop(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled, goes_on = threading.Event(), threading.Event()

    def stall(*_: object) -> None:
        stalled.set()
        goes_on.wait(5)

    monkeypatch.setattr(Sender, "send", stall)
    async with opened(settings) as jobs:
        dispatching = asyncio.create_task(jobs.backend.dispatch([await jobs.store.create(a_job(), "{}")]))
        while not stalled.is_set():
            await asyncio.sleep(0)
        assert not dispatching.done()
        goes_on.set()
        await dispatching


async def test_a_connection_that_fails_is_made_anew_once(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [ConnectionError(), None, ConnectionError(), ConnectionError()]

    def fail(_: Sender) -> int:
        if failure := failures.pop(0):
            raise failure
        return 7

    async with opened(settings) as jobs:
        monkeypatch.setattr(Sender, "waiting", fail)
        assert await jobs.backend.waiting() == 7
        with pytest.raises(ConnectionError):
            await jobs.backend.waiting()


async def test_a_missing_worker_is_degraded(settings: JobSettings) -> None:
    async with opened(settings) as jobs:
        assert await jobs.backend.checks() == {
            "redis": "ok",
            "broker": "ok",
            "worker": "degraded: none is alive, accepted jobs wait",
        }


async def test_a_missing_redis_is_degraded_and_in_time(settings: JobSettings) -> None:
    away = settings.model_copy(update={"redis_url": RedisDsn("redis://127.0.0.1:1/0")})
    began = time.monotonic()
    async with opened(away) as jobs:
        checks = await jobs.backend.checks()
    assert checks["redis"].startswith("degraded: ")
    assert checks["worker"].startswith("degraded: ")
    assert time.monotonic() - began < 5


async def test_a_broker_that_is_silent_is_degraded_in_time(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    async with opened(settings) as jobs:
        monkeypatch.setattr(Sender, "waiting", lambda _: goes_on.wait(5))
        began = time.monotonic()
        looks = await asyncio.gather(*(jobs.backend.checks() for _ in range(5)))
        assert {checks["broker"] for checks in looks} == {"degraded: no answer"}
        assert time.monotonic() - began < 4
        goes_on.set()

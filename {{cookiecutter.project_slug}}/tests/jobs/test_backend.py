import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http.client import HTTPResponse
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.errors import NotFound, Unavailable
from app.jobs import room
from app.jobs import store as memory
from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.job import Job
from app.jobs.settings import JobSettings
from app.jobs.status import Progress
from app.jobs.store import Store
from app.jobs.tasks import Document, index_document
from app.main import create_app
from app.settings import Settings
from app.shutdown import Shutdown
from tests.callers.knowing import ANYBODY
from tests.jobs.fakes import dispatched_job, opened
from tests.server import Server

LARGE = json.dumps({"title": "large", "text": "lorem ipsum " * 44_000})
DOCUMENT = Document(title="t", text="x")
HEARTBEAT_SECONDS = 0.05  # of the server that tests share
TRIES = 3  # on a machine that does more than this


async def test_what_has_not_ended_at_the_drain_limit_is_reported_as_lost(
    job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def endless(context: JobContext, document: Document) -> Document:
        begun.set()
        await asyncio.sleep(60)
        return document

    task = Task("endless", endless, Document)
    monkeypatch.setitem(TASKS, task.name, task)
    shutdown = Shutdown(0.02)
    async with opened(job_settings, shutdown) as jobs:
        job = await jobs.enqueue(task, DOCUMENT, caller="c")
        await asyncio.wait_for(begun.wait(), 10)
        shutdown.begin()
    assert f"job {job.id} is lost" in caplog.text
    (line,) = (vars(record) for record in caplog.records if "outcome" in vars(record))
    assert (line["job"], line["attempt"], line["outcome"]) == (job.id, 1, "interrupted")


async def test_what_ends_within_the_drain_time_is_waited_for(
    job_settings: JobSettings, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown = Shutdown(5)
    async with opened(job_settings, shutdown) as jobs:
        job = await jobs.enqueue(index_document, DOCUMENT, caller="c")
        while (await jobs.get(job.id, caller="c")).status == "queued":
            await asyncio.sleep(0)
        shutdown.begin()
    assert (await jobs.get(job.id, caller="c")).status == "succeeded"
    assert "lost" not in caplog.text


@pytest.mark.parametrize("processes", [1, 2])
async def test_several_web_processes_are_warned_of(
    processes: int, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings, [room.jobs(JobSettings(_env_file=None))], ANYBODY)
    app.processes = processes
    async with app.router.lifespan_context(app):
        pass
    assert ("2 processes serve" in caplog.text) == (processes == 2)


def beats_until(end: Future[bytes], stream: HTTPResponse) -> int:
    """How many keep-alives have come by then."""
    beats = 0
    while not end.done():
        beats += stream.readline() == b": keep-alive\n"
    return beats


def beside_a_large_document(server: Server) -> tuple[list[float], float]:
    """How long each health check took meanwhile, and how many of the keep-alives that were due have come."""
    stream = server.request("POST", "/chat/stream", json.dumps({"question": "x"}))
    job_id = json.load(server.request("POST", "/documents", LARGE))["id"]
    with ThreadPoolExecutor() as pool:
        events = pool.submit(lambda: server.request("GET", f"/jobs/{job_id}/events").read())
        beats = pool.submit(beats_until, events, stream)
        began, delays = time.monotonic(), []
        while not events.done():
            delays.append(server.seconds("/health"))
        took = time.monotonic() - began
        assert b'"succeeded"' in events.result()
        due = took / HEARTBEAT_SECONDS
    stream.close()
    return sorted(delays), beats.result() / due


def test_a_large_document_delays_neither_health_checks_nor_heartbeats(server: Server) -> None:
    idle = min(server.seconds("/health") for _ in range(3))
    seen = []
    for _ in range(TRIES):
        delays, beats = beside_a_large_document(server)
        most = delays[len(delays) * 9 // 10]  # not the slowest few, for CI is shared
        seen.append((len(delays), most, beats))
        # A loop that counts the terms itself answers once or twice while it does.
        if len(delays) > 20 and most < max(0.1, 20 * idle) and beats >= 1 / 4:
            return
    pytest.fail(f"checks, how long most of them took, and the share of keep-alives: {seen}")


def queued(id: str, **fields: Any) -> Job:  # noqa: A002
    return dispatched_job(id, dispatches=0, **fields)


async def end(store: Store, job_id: str, status: str) -> None:
    await store.update(job_id, lambda job: job.model_copy(update={"status": status, "due": None}))


async def test_a_store_that_is_full_forgets_first_what_ended_first_and_then_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MAX_JOBS", 3)
    for name in "abc":
        await store.create(queued(name), "{}")
    await end(store, "b", "failed")
    await end(store, "a", "succeeded")
    await store.create(queued("d"), "{}")
    assert {job.id for job in await store.latest(None, 10)} == {"a", "c", "d"}
    await store.create(queued("e"), "{}")
    with pytest.raises(Unavailable, match="too many jobs wait"):
        await store.create(queued("f"), "{}")
    assert (await store.create(queued("c"), "{}")).id == "c"  # the same request again is no new job
    await end(store, "c", "cancelled")
    await store.create(queued("f"), "{}")
    assert {job.id for job in await store.latest(None, 10)} == {"d", "e", "f"}


async def test_payloads_results_and_events_take_space(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_BYTES", 1_000_000)
    await store.create(queued("first"), "x" * 600_000)
    with pytest.raises(Unavailable):
        await store.create(queued("second"), "x" * 600_000)
    await end(store, "first", "failed")
    await store.create(queued("second"), "x" * 600_000)
    with pytest.raises(NotFound):
        await store.get("first")
    await end(store, "second", "succeeded")  # nobody needs its payload any more
    await store.create(queued("third"), "x" * 600_000)
    await store.update("third", lambda job: job.model_copy(update={"attempts": 1}), result="x" * 399_000)
    with pytest.raises(NotFound):
        await store.get("second")
    assert (await store.get("third")).attempts == 1
    await end(store, "third", "succeeded")
    for number in range(1000):
        progress = Progress(fraction=number / 1000, message="x" * 500)
        await store.update("third", partial(Job.model_copy, update={"progress": progress}))
        if not await store.latest(None, 10):
            break
    assert 500 < number < 999


async def test_a_failed_job_that_is_run_again_is_not_forgotten_for_want_of_space(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MAX_JOBS", 1)
    await store.create(queued("a"), '{"a":1}')
    await end(store, "a", "failed")
    await store.update("a", lambda job: job.again(now=1))
    with pytest.raises(Unavailable):
        await store.create(queued("b"), "{}")
    assert await store.begin("a", lambda job, now: job) == (await store.get("a"), '{"a":1}')


def test_a_full_store_is_a_503_that_says_when_to_come_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(memory, "MAX_JOBS", 0)
    response = client.post("/documents", json={"title": "t", "text": "x"})
    assert (response.status_code, response.json()) == (503, {"detail": "too many jobs wait"})
    assert response.headers["Retry-After"]
    assert [vars(each)["limit"] for each in caplog.records if each.message == "refused"] == ["all jobs"]


async def test_a_look_for_what_is_due_costs_the_same_however_many_jobs_there_are(store: Store) -> None:
    async def seconds() -> float:
        began = time.perf_counter()
        for _ in range(100):
            assert await store.due(10, limit=100) == ["due"]
        return time.perf_counter() - began

    await store.create(queued("due", due=1.0), "{}")
    few = min([await seconds() for _ in range(5)])
    for number in range(2000):
        await store.create(queued(f"later {number}", due=100.0 + number), "{}")
        await store.create(queued(f"ended {number}", due=None), "{}")
    assert min([await seconds() for _ in range(5)]) < 20 * few  # a look at each would be 4,000 times as long

import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPResponse

import pytest

from app.jobs import room
from app.jobs.definition import TASKS, JobContext, Task
from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from app.main import create_app
from app.settings import Settings
from app.shutdown import Shutdown
from tests.jobs.fakes import opened
from tests.server import Server

LARGE = json.dumps({"title": "large", "text": "lorem ipsum " * 87_000})
DOCUMENT = Document(title="t", text="x")
HEARTBEAT_SECONDS = 0.05  # of the server that tests share


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
        await asyncio.wait_for(begun.wait(), 5)
        shutdown.begin()
    assert f"job {job.id} is lost" in caplog.text


async def test_what_ends_within_the_drain_time_is_waited_for(
    job_settings: JobSettings, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown = Shutdown(5)
    async with opened(job_settings, shutdown) as jobs:
        job = await jobs.enqueue(index_document, DOCUMENT, caller="c")
        while (await jobs.get(job.id)).status == "queued":
            await asyncio.sleep(0)
        shutdown.begin()
    assert (await jobs.get(job.id)).status == "succeeded"
    assert "lost" not in caplog.text


@pytest.mark.parametrize("processes", [1, 2])
async def test_several_web_processes_are_warned_of(
    processes: int, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings, [room.jobs(JobSettings(_env_file=None))])
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


def test_a_large_document_delays_neither_health_checks_nor_heartbeats(server: Server) -> None:
    idle = min(server.seconds("/health") for _ in range(3))
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
        assert beats.result() >= took / HEARTBEAT_SECONDS / 4
    stream.close()
    # A loop that counts the terms itself answers once or twice while it does; not the slowest few, for CI is shared.
    assert len(delays) > 20
    assert sorted(delays)[len(delays) * 9 // 10] < max(0.1, 20 * idle)

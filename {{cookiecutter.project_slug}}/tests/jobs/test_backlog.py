"""How many jobs have not ended, and how long the one has waited that ought to have begun first."""

import json
import logging
import math
from functools import partial
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from app.errors import Unavailable
from app.jobs.dependencies import LATE_SECONDS, checks
from app.jobs.job import Job
from app.jobs.status import Backlog, JobError, Progress
from app.jobs.store import Store
from app.logs import JsonLines, request_id
from tests.jobs.fakes import Broker, Jobs

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ERROR = JobError(code="job_failed", message="The job failed.", request_id="r")


async def add(store: Store, job_id: str, wait: float) -> None:
    """A job that has waited for so many seconds."""
    now = await store.now()
    fields: dict[str, Any] = {"task": "t", "fingerprint": "f", "request_id": "r", "created_at": now}
    await store.create(Job(id=job_id, due=now - wait, **fields), "{}")


async def backlog(store: Store) -> tuple[int, int, int, int]:
    """In hundreds of seconds."""
    *number, seconds = await store.backlog()
    queued, running, retrying = number
    return queued, running, retrying, int(seconds // 100)


async def test_what_ought_to_have_begun_counts_until_it_has(store: Store) -> None:
    """Also while its message is at the broker, for a dispatch moves the time at which the job is due. One that is for
    later does not wait."""
    assert await store.backlog() == Backlog(0, 0, 0, 0.0)
    await add(store, "later", -1000)
    assert await store.backlog() == Backlog(1, 0, 0, 0.0)
    await add(store, "first", 550)
    await add(store, "second", 350)
    assert await backlog(store) == (3, 0, 0, 5)
    now = await store.now()
    for _ in range(2):
        await store.update("first", partial(Job.dispatched, now=now, pause=-1))
        assert await backlog(store) == (3, 0, 0, 5)
    await store.update("first", partial(Job.begin, holder="me", now=now, lease=0, max_attempts=3))
    assert await backlog(store) == (2, 1, 0, 3)
    await store.update("second", partial(Job.cancel, now=now))
    assert await backlog(store) == (1, 1, 0, 0)


async def test_a_retry_waits_from_when_its_pause_is_over_and_an_orphan_from_its_lease_s_end(store: Store) -> None:
    now = await store.now()
    for job_id in ("retry", "orphan"):
        await add(store, job_id, 2000)
        await store.update(job_id, partial(Job.dispatched, now=now, pause=15))
        begin = partial(Job.begin, holder="me", now=now - 950, lease=300, max_attempts=3)
        await store.update(job_id, begin)
    failed = partial(Job.fail, holder="me", now=now - 900, progress=Progress(), error=ERROR, retry_in=450)
    await store.update("retry", failed)
    assert await backlog(store) == (0, 1, 1, 4)
    await store.update("orphan", partial(Job.dispatched, now=now, pause=15))
    assert await backlog(store) == (0, 0, 2, 6)


async def checked(jobs: Jobs, broker: Broker) -> str:
    return (await checks(Request({"type": "http", "state": {"jobs": jobs, "backend": broker}})))["jobs"]


async def test_a_job_that_waits_for_too_long_shows_in_readiness(jobs: Jobs, broker: Broker) -> None:
    await add(jobs.store, "j", LATE_SECONDS - 30)
    assert await checked(jobs, broker) == "ok"
    await add(jobs.store, "k", LATE_SECONDS + 30)
    said = await checked(jobs, broker)
    assert said.startswith("degraded: one has waited for 9")

    async def away() -> Backlog:
        raise Unavailable("away")

    vars(jobs.store)["backlog"] = away
    assert await checked(jobs, broker) == "degraded: unknown without their store"


def test_readiness_has_a_check_of_jobs(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.dependencies.LATE_SECONDS", math.inf)  # other tests leave jobs that nobody runs
    assert client.get("/ready").json()["checks"]["jobs"] == "ok"


async def test_a_lease_that_is_taken_from_a_dead_holder_is_told_of_once(
    store: Store, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the relay that has taken it: nobody else knows that the holder's process was killed. The line is the job's."""
    caplog.set_level(logging.INFO, "app")
    monkeypatch.setattr(caplog.handler, "formatter", JsonLines())
    first, second = (Jobs(store, broker) for _ in range(2))
    await add(store, "j", 0)
    await first.relay.dispatch_due()
    now = await store.now()
    await store.update("j", partial(Job.begin, holder="dead", now=now - 20, lease=15, max_attempts=3))
    await store.update("j", lambda job: job.model_copy(update={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}))
    assert await first.relay.dispatch_due() == await second.relay.dispatch_due() + 1 == 1
    (line,) = (line for line in map(json.loads, caplog.text.splitlines()) if "outcome" in line)
    assert [line[name] for name in ("level", "task", "job", "attempt", "outcome")] == ["WARNING", "t", "j", 1, "lost"]
    assert 20 <= line["seconds"] < 1000
    assert (line["request_id"], line["caller"], line["trace_id"]) == ("r", "anonymous", TRACE)
    assert request_id.get() == "-"  # the relay itself belongs to no request

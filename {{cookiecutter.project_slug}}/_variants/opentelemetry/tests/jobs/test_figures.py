"""The figures of jobs, from the store that keeps them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

from app.jobs.job import Job
from app.otel.now import Running
from app.shutdown import Shutdown
from tests.jobs.fakes import Broker, Jobs, Order, T


async def test_what_waits_is_what_was_accepted_and_has_not_begun(jobs: Jobs) -> None:
    for what in ("tea", "cake", "jam"):
        last = await jobs.enqueue(T, Order(what=what), caller="c")
    await jobs.enqueue(T, Order(what="later"), caller="c", due=datetime.now(UTC) + timedelta(hours=1))
    now = await jobs.store.now()
    await jobs.store.update(last.id, partial(Job.dispatched, now=now, pause=15))
    await jobs.store.update(last.id, partial(Job.begin, holder="h", now=now, lease=15, max_attempts=3))
    broker = Broker()
    broker.ids.put_nowait("a message")
    state = {"shutdown": Shutdown(1), "places": SimpleNamespace(taken=0), "jobs": jobs, "backend": broker}
    server = Running(state)
    try:
        found = await asyncio.to_thread(server.observed)
    finally:
        await server.end()
    assert {each.attributes["status"]: each.value for each in found["jobs.count"] if each.attributes} == {
        "queued": 3,
        "running": 1,
        "retrying": 0,
    }
    (age,) = found["jobs.oldest_due.age"]
    assert 0 <= age.value < time.time() - now + 60
    assert [each.value for each in found["jobs.broker.waiting"]] == [1]

import time
from functools import partial
from typing import Any

import pytest

from app.errors import Unavailable
from app.jobs import events as events_module
from app.jobs.events import JobStatus, follow, resume
from app.jobs.job import Job, Progress
from app.jobs.store import Store
from app.streams.events import Done

JOB = Job(id="j", task="t", fingerprint="f", request_id="r", created_at=0, due=0)


async def test_a_follower_sees_each_state_and_one_done(store: Store) -> None:
    job = await store.create(JOB, "{}")
    events = follow(store, job.id)
    nothing = {"fraction": 0.0, "message": ""}
    assert await anext(events) == JobStatus("queued", nothing)
    await store.update(job.id, lambda job: job.begin("me", 1, 15, 3))
    assert await anext(events) == JobStatus("running", nothing)
    await store.update(job.id, lambda job: job.succeed("me", time.time(), Progress(message="all")))
    assert [event async for event in events] == [
        JobStatus("succeeded", {"fraction": 1.0, "message": "all"}),
        Done("end"),
    ]


async def test_a_follower_waits_while_the_store_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await store.create(JOB, "{}")
    monkeypatch.setattr(events_module, "AGAIN_SECONDS", 0.01)
    events, news = follow(store, job.id), store.news
    await anext(events)
    await store.update(job.id, partial(Job.cancel, now=time.time()))
    away = [True]

    async def unsteady(job_id: str, after: int) -> tuple[Job, list[dict[str, Any]]]:
        if away and away.pop():
            raise Unavailable("away")
        return await news(job_id, after)

    monkeypatch.setattr(store, "news", unsteady)
    assert [event.name async for event in events] == ["status", "done"]
    assert away == []


@pytest.mark.parametrize(("last_id", "place"), [(0, 0), (1, 1), (2, 0), (9, 0)])
async def test_a_follower_of_a_live_job_goes_on_where_it_was_or_starts_over(
    store: Store, last_id: int, place: int
) -> None:
    job = await store.create(JOB, "{}")
    assert await resume(store, job.id, last_id) == place


@pytest.mark.parametrize(("last_id", "place"), [(0, 0), (1, 1), (2, 2), (3, None), (9, None)])
async def test_a_follower_that_has_had_the_done_gets_no_more(store: Store, last_id: int, place: int | None) -> None:
    job = await store.create(JOB, "{}")
    await store.update(job.id, partial(Job.cancel, now=time.time()))
    assert await resume(store, job.id, last_id) == place

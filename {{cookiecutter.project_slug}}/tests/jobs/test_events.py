import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from app.errors import Unavailable
from app.jobs import events as events_module
from app.jobs.events import JobChanged, JobLog, resume
from app.jobs.job import Job
from app.jobs.status import Progress
from app.jobs.store import Store
from app.logs import request_id
from app.streams.events import Done, Error, Event
from app.streams.heartbeat import with_heartbeat


async def follow(store: Store, job_id: str) -> AsyncGenerator[Event, None]:
    """As a stream reads a job's log."""
    async with aclosing(with_heartbeat(JobLog(store, job_id, JOB.caller), 60)) as batches:
        async for batch in batches:
            for event in batch:
                yield event


JOB = Job(id="j", task="t", fingerprint="f", request_id="r", created_at=0, due=0, dispatches=1)


async def test_a_follower_sees_each_state_and_one_done(store: Store) -> None:
    job = await store.create(JOB, "{}")
    events = follow(store, job.id)
    nothing = {"fraction": 0.0, "message": ""}
    assert await anext(events) == JobChanged("queued", nothing)
    await store.update(job.id, lambda job: job.begin("me", 1, 15, 3))
    assert await anext(events) == JobChanged("running", nothing)
    await store.update(job.id, lambda job: job.succeed("me", time.time(), Progress(message="all")))
    assert [event async for event in events] == [
        JobChanged("succeeded", {"fraction": 1.0, "message": "all"}),
        Done("end"),
    ]


async def test_a_follower_does_not_mind_what_a_later_version_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await store.create(JOB, "{}")

    async def later(*_: object) -> tuple[Job, list[dict[str, Any]]]:
        return job, [{"state": "queued", "progress": {}, "place": 7}]

    monkeypatch.setattr(store, "news", later)
    assert await anext(follow(store, job.id)) == JobChanged("queued", {})


async def test_a_follower_waits_while_the_store_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await store.create(JOB, "{}")
    monkeypatch.setattr(events_module, "LOOK_AGAIN_SECONDS", 0.01)
    events, news = follow(store, job.id), store.news
    await anext(events)
    await store.update(job.id, partial(Job.cancel, now=time.time()))
    away = [True]

    async def unsteady(job_id: str, after: int, limit: int) -> tuple[Job, list[dict[str, Any]]]:
        if away and away.pop():
            raise Unavailable("away")
        return await news(job_id, after, limit)

    monkeypatch.setattr(store, "news", unsteady)
    assert [event.event_type async for event in events] == ["status", "done"]
    assert away == []


async def test_a_follower_of_a_job_that_is_lost_is_told_what_a_request_for_it_is(store: Store) -> None:
    """As when its store has lost its data. It is no fault of ours, which the log would have to show."""
    request_id.set("of-the-follower")
    events = [event async for event in follow(store, JOB.id)]
    assert events == [Error("not_found", "There is no such job.", False, "of-the-follower"), Done("error")]


@pytest.mark.parametrize("events", [1, 2, 3, 4, 5])
async def test_a_long_history_comes_in_pieces_and_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    monkeypatch.setattr(events_module, "AT_ONCE", 2)
    job = await store.create(JOB, "{}")
    for number in range(1, events):
        update = {"progress": Progress(message=str(number))}
        await store.update(job.id, partial(Job.model_copy, update=update))
    following = follow(store, job.id)
    messages = [(await anext(following)).progress["message"] for _ in range(events)]  # type: ignore[attr-defined]
    assert messages == ["", *map(str, range(1, events))]
    await store.update(job.id, partial(Job.cancel, now=time.time()))
    assert [event.event_type async for event in following] == ["status", "done"]


async def test_a_follower_looks_only_when_there_is_news(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await store.create(JOB, "{}")
    looks, news = 0, store.news

    async def counted(job_id: str, after: int, limit: int) -> tuple[Job, list[dict[str, Any]]]:
        nonlocal looks
        looks += 1
        return await news(job_id, after, limit)

    monkeypatch.setattr(store, "news", counted)
    events = follow(store, job.id)
    await anext(events)
    following = asyncio.create_task(anext(events))
    await asyncio.sleep(0.1)
    await store.update(job.id, partial(Job.cancel, now=time.time()))
    assert await asyncio.wait_for(following, 10) == JobChanged("cancelled", {"fraction": 0.0, "message": ""})
    assert looks <= 4  # at the start, at the first subscription, at the news


@pytest.mark.parametrize(("last_id", "place"), [(0, 0), (1, 1), (2, 0), (9, 0)])
async def test_a_follower_of_a_live_job_goes_on_where_it_was_or_starts_over(
    store: Store, last_id: int, place: int
) -> None:
    job = await store.create(JOB, "{}")
    assert await resume(store, job.id, job.caller, last_id) == place


@pytest.mark.parametrize(("last_id", "place"), [(0, 0), (1, 1), (2, 2), (3, None), (9, None)])
async def test_a_follower_that_has_had_the_done_gets_no_more(store: Store, last_id: int, place: int | None) -> None:
    job = await store.create(JOB, "{}")
    await store.update(job.id, partial(Job.cancel, now=time.time()))
    assert await resume(store, job.id, job.caller, last_id) == place

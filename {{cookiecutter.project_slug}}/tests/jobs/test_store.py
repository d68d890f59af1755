import asyncio
import time
from functools import partial
from typing import Any

import pytest

from app.errors import NotFound
from app.jobs.job import Job
from app.jobs.status import NotYours, Progress
from app.jobs.store import Store


def a_job(id: str = "j", **fields: Any) -> Job:  # noqa: A002
    return Job(
        **{"id": id, "task": "t", "fingerprint": "f", "request_id": "r", "created_at": 0.0, "due": 0.0, **fields}
    )


def begin(job: Job) -> Job:
    return job.model_copy(update={"dispatches": 1}).begin("me", now=time.time(), lease=15, max_attempts=3)


def as_it_is(job: Job, now: float) -> Job:
    return job


async def test_what_was_created_is_found(store: Store) -> None:
    await store.create(a_job(), '{"a":1}')
    assert await store.get("j") == a_job()
    assert await store.begin("j", as_it_is) == (a_job(), '{"a":1}')
    assert await store.result("j") is None


async def test_the_second_job_of_an_id_is_the_first(store: Store) -> None:
    await store.create(a_job(), "1")
    assert await store.create(a_job(task="other"), "2") == a_job()
    assert await store.begin("j", as_it_is) == (a_job(), "1")


@pytest.mark.parametrize("part", ["record", "payload", "result", "events"])
async def test_an_id_names_nothing_but_a_job(store: Store, part: str) -> None:
    await store.create(a_job(), "{}")
    with pytest.raises(NotFound):
        await store.get(f"j:{part}")


async def test_an_unknown_id_is_not_found(store: Store) -> None:
    for call in (store.get("nobody"), store.begin("nobody", as_it_is), store.news("nobody", 0, 1)):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        await store.update("nobody", begin)


async def test_who_begins_is_given_the_payload_also_when_the_first_answer_was_lost(store: Store) -> None:
    def begin(job: Job, now: float) -> Job:
        return job.begin("me", now, 15, 3)

    await store.create(a_job(dispatches=1), '{"a":1}')
    first = await store.begin("j", begin)
    assert first == (await store.get("j"), '{"a":1}')
    assert first[0].attempts == 1
    assert await store.begin("j", begin) == first
    assert len((await store.news("j", 0, 100))[1]) == 2


async def test_a_beginning_that_is_refused_changes_nothing(store: Store) -> None:
    await store.create(a_job(), "{}")
    with pytest.raises(NotYours):
        await store.begin("j", lambda job, now: job.begin("me", now, 15, 3))
    assert await store.get("j") == a_job()


async def test_a_change_that_raises_leaves_everything_as_it_was(store: Store) -> None:
    await store.create(a_job(), "{}")
    before = await store.update("j", begin)
    with pytest.raises(NotYours):
        await store.update("j", lambda job: job.succeed("you", 1, Progress()), result="1")
    assert await store.get("j") == before
    assert await store.result("j") is None
    assert len((await store.news("j", 0, 100))[1]) == 2


async def test_changes_at_the_same_time_are_each_applied(store: Store) -> None:
    await store.create(a_job(), "{}")
    await asyncio.gather(
        *(store.update("j", lambda job: job.model_copy(update={"dispatches": job.dispatches + 1})) for _ in range(5))
    )
    assert (await store.get("j")).dispatches == 5


async def test_the_result_is_written_with_the_end(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", begin)
    await store.update("j", lambda job: job.succeed("me", time.time(), Progress()), result="[1]")
    assert await store.result("j") == "[1]"


async def test_who_is_due_follows_the_record(store: Store) -> None:
    await store.create(a_job("now"), "{}")
    await store.create(a_job("later", due=time.time() + 60), "{}")
    await store.create(a_job("held"), "{}")
    await store.update("held", begin)
    await store.create(a_job("ended"), "{}")
    await store.update("ended", partial(Job.cancel, now=time.time()))
    assert await store.due(time.time(), 10) == ["now"]
    assert await store.due(time.time() + 61, 10) == ["now", "held", "later"]
    assert await store.due(time.time() + 61, 2) == ["now", "held"]


async def test_each_change_that_followers_can_see_is_an_event(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", begin)
    await store.update("j", partial(Job.renewed, holder="me", now=1, lease=15, progress=Progress()))
    half = Progress(fraction=0.5, message="half")
    await store.update("j", partial(Job.renewed, holder="me", now=1, lease=15, progress=half))
    job, events = await store.news("j", 0, 100)
    assert job == await store.get("j")
    states = [(event["state"], event["progress"]["fraction"]) for event in events]
    assert states == [("queued", 0), ("running", 0), ("running", 0.5)]
    assert (await store.news("j", 2, 100))[1] == [{"state": "running", "progress": half.model_dump()}]
    assert [event["state"] for event in (await store.news("j", 0, 2))[1]] == ["queued", "running"]


async def test_who_watches_a_job_is_told_of_its_news_and_of_no_other_job_s(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.create(a_job("other"), "{}")
    with store.watch("j") as first, store.watch("j") as second, store.watch("other") as others:
        while not first.is_set():  # the first to watch has to be heard of by those who tell
            await store.update("j", lambda job: job.model_copy(update={"status": "running"}))
            await store.update("j", lambda job: job.model_copy(update={"status": "queued"}))
            await asyncio.sleep(0.01)
        await asyncio.wait_for(second.wait(), 10)
        for event in (first, second, others):
            event.clear()
        await store.update("j", begin)
        await asyncio.wait_for(first.wait(), 10)
        await asyncio.wait_for(second.wait(), 10)
        assert not others.is_set()


async def test_the_latest_are_those_whose_status_changed_last(store: Store) -> None:
    for name in "abc":
        await store.create(a_job(name), "{}")
    await store.update("a", partial(Job.cancel, now=time.time()))
    await store.update("c", begin)
    await store.update("b", partial(Job.cancel, now=time.time()))
    await store.update("c", partial(Job.renewed, holder="me", now=1, lease=15, progress=Progress(fraction=0.5)))
    assert [job.id for job in await store.latest(None, 10)] == ["b", "c", "a"]
    assert [job.id for job in await store.latest("cancelled", 10)] == ["b", "a"]
    assert [job.id for job in await store.latest("cancelled", 1)] == ["b"]
    assert await store.latest("failed", 10) == []


@pytest.mark.parametrize("me", ["me", "you:queued", "idp|\u00fc \n", "x" * 10_000, ""])
async def test_a_caller_s_list_has_its_own_jobs_alone(store: Store, me: str) -> None:
    """Whatever its name is: an identity provider may have chosen it."""
    for name, caller in (("a", me), ("b", "you"), ("c", me), ("d", "you")):
        await store.create(a_job(name, caller=caller), "{}")
    await store.update("a", partial(Job.cancel, now=time.time()))
    await store.update("b", begin)
    assert [job.id for job in await store.latest(None, 10, me)] == ["a", "c"]
    assert [job.id for job in await store.latest(None, 1, me)] == ["a"]
    assert [job.id for job in await store.latest("queued", 10, me)] == ["c"]
    assert [job.id for job in await store.latest("running", 10, me)] == []
    assert [job.id for job in await store.latest(None, 10, "you")] == ["b", "d"]
    assert await store.latest(None, 10, "nobody") == []
    assert [job.id for job in await store.latest(None, 10)] == ["b", "a", "d", "c"]


async def test_an_ended_job_is_forgotten_after_its_retention(store: Store) -> None:
    store.retention = 1
    await store.create(a_job(), "{}")
    await store.update("j", partial(Job.cancel, now=time.time()))
    assert (await store.get("j")).ended
    deadline = time.monotonic() + 10
    with pytest.raises(NotFound):
        while time.monotonic() < deadline:
            await store.get("j")
            await asyncio.sleep(0.05)
    assert await store.latest(None, 10) == await store.latest(None, 10, "anonymous") == []

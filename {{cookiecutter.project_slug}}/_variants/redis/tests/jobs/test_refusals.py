"""A Redis that answers, and refuses; and keys that hold what this service has not written."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Iterator
from functools import partial
from uuid import uuid4

import pytest
from pydantic import RedisDsn
from redis import Redis

from app.errors import NotFound, Unavailable
from app.jobs import news, relay
from app.jobs.job import Job
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.redis_client import CLUSTER, StoreAway, answering, words
from tests.jobs.fakes import Broker, Jobs, Order, T, dispatched_job, opened
from tests.jobs.test_redis_store import a_job


@pytest.fixture
def user(job_settings: JobSettings) -> Iterator[str]:
    """One of Redis, whose rights can be taken away: the server is that of all tests."""
    name = f"user-{uuid4().hex[:8]}"
    with Redis.from_url(str(job_settings.redis_url)) as client:
        client.execute_command("ACL", "SETUSER", name, "on", ">secret", "+@all", "~*", "&*")
        yield name
        client.execute_command("ACL", "DELUSER", name)


@pytest.fixture
def settings(job_settings: JobSettings, user: str) -> JobSettings:
    url = str(job_settings.redis_url).replace("redis://", f"redis://{user}:secret@")
    return job_settings.model_copy(update={"redis_url": RedisDsn(url), "queue_name": f"test-{uuid4().hex[:8]}"})


@pytest.fixture
async def restricted(settings: JobSettings) -> AsyncIterator[Store]:
    async with Store.open(settings) as store:
        yield store


async def rights(store: Store, user: str, *changes: str) -> None:
    await store.client.execute_command("ACL", "SETUSER", user, *changes)  # type: ignore[no-untyped-call]


async def test_what_redis_refuses_is_logged_once_in_its_words(
    store: Store, restricted: Store, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app")
    await rights(store, user, "-@write")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await restricted.create(a_job(), "{}")
        assert await restricted.due(0, 1) == []  # it can be read
    (said,) = caplog.messages
    assert said.startswith("jobs can't be read from Redis or written to it for now: ")
    assert "@user_script" not in said
    await rights(store, user, "+@all")
    await restricted.create(a_job(), "{}")
    assert caplog.messages[1:] == ["jobs are written to Redis again"]


@pytest.mark.parametrize("missing", ["-@write", "-@scripting", "resetchannels"])
async def test_readiness_tries_a_write(settings: JobSettings, store: Store, user: str, missing: str) -> None:
    async with opened(settings) as jobs:
        assert (await jobs.backend.checks())["redis"] == "ok"
        await rights(store, user, missing)
        checks = await jobs.backend.checks()
        assert checks["redis"].startswith("degraded: ")
        assert "permission" in checks["redis"] or "can't" in checks["redis"]
        await rights(store, user, "+@all", "allchannels")
        assert (await jobs.backend.checks())["redis"] == "ok"


async def test_the_relay_waits_until_redis_takes_what_is_written(
    store: Store,
    restricted: Store,
    user: str,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", "app.jobs.relay")
    monkeypatch.setattr(relay, "RELAY_SECONDS", 0.01)
    looks = 0
    check = restricted.check

    def of_the_relay() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "app.jobs.relay"]

    async def looked() -> None:
        nonlocal looks
        looks += 1
        await check()

    monkeypatch.setattr(restricted, "check", looked)
    jobs = Jobs(restricted, broker, lease_seconds=0.03)
    job = await jobs.enqueue(T, Order(what="tea"), caller="c")
    await rights(store, user, "-@write")
    async with jobs.relay.running(), asyncio.timeout(30):
        while looks < 10:
            await asyncio.sleep(0.01)
        assert [record.levelname for record in of_the_relay()] == ["ERROR"]
        await rights(store, user, "+@all")
        assert await broker.ids.get() == job.id
    assert [record.message for record in of_the_relay()][1:] == ["jobs can be dispatched again"]


async def test_a_cluster_is_named_as_what_it_is() -> None:
    for kind in CLUSTER:
        with pytest.raises(StoreAway) as refused:
            async with answering():
                raise kind("1234 127.0.0.1:6379")
        assert words(refused.value).startswith("it is a cluster, which is not supported")


async def test_bytes_on_the_channel_that_are_no_text_keep_nobody_from_the_news(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "RESUBSCRIBE_SECONDS", 0.01)
    await store.create(a_job(), "{}")
    with store.watch("j") as event, Redis.from_url(str(store.settings.redis_url)) as raw:
        await asyncio.wait_for(event.wait(), 60)
        event.clear()
        for message in (b"\xff\xfe", b"", b"no such job", b"x" * 1_000_000):
            raw.publish(store.records.index("news"), message)
        await store.update("j", partial(Job.cancel, now=1))
        await asyncio.wait_for(event.wait(), 60)


async def test_a_listener_that_fails_says_so_and_goes_on(
    store: Store, restricted: Store, user: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(news, "RESUBSCRIBE_SECONDS", 0.01)
    await rights(store, user, "resetchannels")
    with restricted.watch("j") as event:
        for _ in range(5):  # each time, those who watch are told to look
            await asyncio.wait_for(event.wait(), 60)
            event.clear()
        assert caplog.text.count("news of jobs comes late for now") == 1
        await rights(store, user, "allchannels")
        while await store.client.pubsub_numsub(restricted.records.index("news")) != [
            (restricted.records.index("news"), 1)
        ]:
            await asyncio.sleep(0.01)


def a_record(**fields: object) -> bytes:
    return json.dumps({**a_job("bad").model_dump(), **fields}).encode()


@pytest.mark.parametrize(
    "record",
    [
        *(b"\xff\xfe", b'{"id":"\xff"}', b"[]", b"null", b"{" * 100_000, None),
        *(a_record(created_at=1e300), a_record(started_at=-1.0), a_record(ended_at=float("nan"))),
        *(a_record(due=float("nan")), a_record(dispatches=-(10**400)), a_record(attempts=10**400)),
    ],
)
async def test_a_record_that_nobody_can_read_hides_no_other(store: Store, record: bytes | None) -> None:
    await store.create(a_job("good"), "{}")
    await store.create(a_job("bad"), "{}")
    key = store.records.key("bad", "record")
    await store.client.delete(key)
    if record is None:
        await store.client.rpush(key, "of another kind")
    else:
        await store.client.set(key, record)
    for call in (store.get("bad"), store.update("bad", partial(Job.cancel, now=1))):
        with pytest.raises(NotFound):
            await call
    broker = Broker()
    await Jobs(store, broker).relay.dispatch_due()
    assert broker.ids.get_nowait() == "good"
    assert broker.ids.empty()
    assert [job.id for job in await store.latest(None, 10)] == ["good"]


async def test_a_payload_that_is_no_text_is_what_the_task_refuses(store: Store) -> None:
    await store.create(a_job().model_copy(update={"dispatches": 1}), "{}")
    await store.client.set(store.records.key("j", "payload"), b'{"what":"\xff"}')
    _, payload = await store.begin("j", lambda job, now: job.begin("me", now, 15, 3))
    with pytest.raises(ValueError, match="unicode"):
        Order.model_validate_json(payload)
    assert json.loads(payload) == {"what": "\udcff"}


async def test_a_payload_of_another_kind_is_as_one_that_is_gone(store: Store) -> None:
    """As an error it would be asked for again and again, by a worker that does nothing else meanwhile."""
    await store.create(dispatched_job("j"), "{}")
    await store.client.delete(key := store.records.key("j", "payload"))
    await store.client.rpush(key, "of another kind")
    with pytest.raises(NotFound):
        await store.begin("j", lambda job, now: job.begin("me", now, 15, 3))
    assert (await store.get("j")).attempts == 1


async def test_events_of_another_kind_hold_up_no_change(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.client.set(store.records.key("j", "events"), "of another kind")
    job = await store.update("j", partial(Job.cancel, now=1))
    assert await store.news("j", 0, 10) == (job, [job.event()])


async def test_what_redis_refuses_halfway_is_not_accepted(store: Store, restricted: Store, user: str) -> None:
    """Else the same request, sent again, would be told of a job that is never due."""
    for missing, given in (("resetchannels", "allchannels"), ("-zadd", "+zadd"), ("-persist", "+persist")):
        await rights(store, user, missing)
        with pytest.raises(Unavailable):
            await restricted.create(a_job(missing), "{}")
        with pytest.raises(NotFound):
            await restricted.get(missing)
        await rights(store, user, given)
        await restricted.create(a_job(missing), "{}")
    assert len(await restricted.due(1, 10)) == 3


async def test_an_end_that_redis_refuses_halfway_is_none(store: Store, restricted: Store, user: str) -> None:
    await restricted.create(job := a_job(), "{}")
    await rights(store, user, "-expire")
    with pytest.raises(Unavailable):
        await restricted.update("j", partial(Job.cancel, now=1))
    assert await restricted.get("j") == job
    await rights(store, user, "+expire")
    await restricted.update("j", partial(Job.cancel, now=1))
    assert await restricted.client.ttl(restricted.records.key("j", "record")) > 0


async def test_ids_that_are_not_due_by_their_records_hold_up_no_other_job(store: Store) -> None:
    for number in range(relay.BATCH):
        await store.create(a_job(f"ended-{number}"), "{}")
        await store.update(f"ended-{number}", partial(Job.cancel, now=1))
    await store.create(a_job("later").model_copy(update={"due": 1e11}), "{}")
    early = {f"ended-{number}": -math.inf for number in range(relay.BATCH)} | {"later": -math.inf}
    await store.client.zadd(store.records.due_key, early)
    broker = Broker()
    jobs = Jobs(store, broker)
    async with jobs.relay.running():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 60) == job.id
    assert await store.client.zscore(store.records.due_key, "later") == 1e11
    assert await store.client.zcard(store.records.due_key) == 2

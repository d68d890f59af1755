"""What only the store in Redis has: expiry, and a server that may not answer."""

import asyncio
import json
import math
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from pydantic import RedisDsn
from redis.asyncio import Connection

from app import redis_client
from app.errors import NotFound, Unavailable
from app.jobs import news, relay
from app.jobs.definition import TASKS
from app.jobs.job import Job
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.status import Progress
from app.jobs.store import Store
from tests.jobs.fakes import Broker, Jobs, Order, T, dispatched_job


def a_job(id: str = "j") -> Job:  # noqa: A002
    return Job(id=id, task="t", fingerprint="f", request_id="r", created_at=0.0, due=0.0)


async def lifetimes(store: Store) -> dict[str, Any]:
    prefix = f"{store.settings.queue_name}:"
    keys = [key async for key in store.client.scan_iter(f"{prefix}*")]
    return {str(key).removeprefix(prefix): await store.client.ttl(key) for key in keys}


async def test_a_job_that_has_not_ended_never_expires(store: Store) -> None:
    await store.create(a_job(), "{}")
    keys = ["job:j:record", "job:j:payload", "job:j:events", "jobs:due", "jobs:queued"]
    assert await lifetimes(store) == dict.fromkeys(keys, -1)


async def test_all_of_an_ended_job_expires_together(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", partial(Job.cancel, now=time.time()), result="{}")
    ends = await lifetimes(store)
    assert sorted(ends) == ["job:j:events", "job:j:payload", "job:j:record", "job:j:result", "jobs:cancelled"]
    assert all(store.retention - 5 < seconds <= store.retention for seconds in ends.values())


async def test_a_job_that_runs_again_expires_no_more(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", lambda job: job.model_copy(update={"status": "failed", "due": None, "ended_at": 1.0}))
    await store.update("j", partial(Job.again, now=time.time()))
    assert set((await lifetimes(store)).values()) == {-1}


@pytest.mark.parametrize("junk", ['{"status": "of a later version"}', None])
async def test_records_that_can_not_be_read_or_are_gone_hold_up_no_other_job(
    store: Store, junk: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "RELAY_SECONDS", 60)  # it goes on at once
    for number in range(3 * relay.BATCH):
        await store.client.zadd(store.records.due_key, {f"junk-{number}": number})
        if junk:
            await store.client.set(store.records.key(f"junk-{number}", "record"), junk)
    broker = Broker()
    jobs = Jobs(store, broker)
    async with jobs.relay.running():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 5) == job.id
    assert broker.ids.empty()


async def test_a_job_that_is_accepted_while_another_process_misses_it_stays_due(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missed(_: str) -> None:
        await store.create(a_job(), "{}")  # between that process's look and what it concludes

    with monkeypatch.context() as patch:
        patch.setattr(store.records, "read", missed)
        with pytest.raises(NotFound):
            await store.update("j", partial(Job.cancel, now=time.time()))
    assert await store.due(time.time(), 10) == ["j"]


@pytest.mark.parametrize("due", [1764403200.1234567, 0.1 + 0.2, 1e-7, 253402300799.99997])
async def test_a_time_is_kept_to_its_last_digit(store: Store, due: float) -> None:
    await store.create(a_job().model_copy(update={"due": due}), "{}")
    assert await store.client.zscore(store.records.due_key, "j") == due
    assert await store.due(math.nextafter(due, 0), 10) == []
    assert await store.due(due, 10) == ["j"]


async def test_every_text_is_kept_as_it_is(store: Store) -> None:
    """Else a record would never be found as it was written, and each change of it would look for ever."""
    text = "".join(map(chr, range(0x3000))) + "\ud7ff\ue000\uffff\U0001f600\U0010ffff"
    await store.create(a_job(), payload := json.dumps(text))
    await store.client.set(store.records.key("j", "payload"), payload + text)
    told = Progress(message=text)
    job, found = await store.begin("j", lambda job, now: job.model_copy(update={"progress": told, "caller": text}))
    assert found == payload + text
    job = await store.update("j", lambda job: job.model_copy(update={"due": 1.0}), result=text, seen=job)
    assert await store.get("j") == job
    assert (job.due, job.caller, job.progress.message) == (1.0, text, text)
    assert await store.result("j") == text
    assert (await store.news("j", 1, 10))[1] == [job.event()]


async def test_a_job_whose_payload_is_gone_is_not_found(store: Store) -> None:
    """But its attempt counts: else the job would be looked at for ever."""
    await store.create(dispatched_job("j"), "{}")
    await store.client.delete(store.records.key("j", "payload"))
    with pytest.raises(NotFound):
        await store.begin("j", lambda job, now: job.begin("me", now, 15, 3))
    assert (await store.get("j")).attempts == 1


async def test_an_attempt_takes_three_round_trips(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of milliseconds is hardly more than these."""
    monkeypatch.setitem(TASKS, "t", T)
    await store.create(dispatched_job("warm"), '{"what":"tea"}')
    await store.create(dispatched_job("j"), '{"what":"tea"}')
    await run(store, "warm", store.settings)

    sent = []
    send = Connection.send_packed_command

    async def counted(connection: Connection, command: Any, *options: Any, **more: Any) -> None:
        sent.append(command)
        await send(connection, command, *options, **more)

    monkeypatch.setattr(Connection, "send_packed_command", counted)
    await run(store, "j", store.settings)
    assert (len(sent), (await store.get("j")).status) == (3, "succeeded")


async def test_a_server_that_is_away_is_unavailable() -> None:
    settings = JobSettings(_env_file=None, redis_url=RedisDsn("redis://127.0.0.1:1/0"))
    async with Store.open(settings) as store:
        with pytest.raises(Unavailable):
            await store.get("j")
        with pytest.raises(Unavailable):
            await store.create(a_job(), "{}")


async def test_a_server_that_stalls_is_unavailable_in_time(
    job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(redis_client, "ANSWER_SECONDS", 0.05)
    async with await asyncio.start_server(says_nothing, "127.0.0.1") as stalled:
        port = stalled.sockets[0].getsockname()[1]
        settings = job_settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})
        async with Store.open(settings) as store:
            with pytest.raises(Unavailable):
                await asyncio.wait_for(store.get("j"), 5)


@pytest.mark.parametrize("turns", range(40))
async def test_a_call_that_is_cancelled_is_cancelled_at_whatever_moment(job_settings: JobSettings, turns: int) -> None:
    async with Store.open(job_settings) as store:
        call = asyncio.create_task(store.due(0, 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        finished = call.done()
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled() or finished


async def test_more_requests_than_connections_wait_for_one(store: Store) -> None:
    await store.create(a_job(), "{}")
    others = len(await store.client.client_list()) - 1
    found = await asyncio.gather(*(store.get("j") for _ in range(200)))
    assert len(found) == 200
    assert len(await store.client.client_list()) - others <= redis_client.CONNECTIONS


async def test_all_who_watch_share_one_connection(store: Store) -> None:
    await store.create(a_job(), "{}")
    before = len(await store.client.client_list())
    with ExitStack() as stack:
        events = [stack.enter_context(store.watch("j")) for _ in range(50)]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in events)), 5)  # they are told to look first
        assert len(await store.client.client_list()) == before + 1


async def test_after_a_lost_connection_everybody_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "RESUBSCRIBE_SECONDS", 0.01)
    await store.create(a_job(), "{}")
    with store.watch("j") as event:
        for _ in range(3):
            await asyncio.wait_for(event.wait(), 5)
            event.clear()
            assert await store.client.client_kill_filter(_type="pubsub") == 1


async def test_a_connection_that_is_silent_is_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(news, "RESUBSCRIBE_SECONDS", 0.01)
    with store.watch("j") as event:
        for _ in range(3):
            await asyncio.wait_for(event.wait(), 5)
            event.clear()


async def test_who_was_forgotten_leaves_the_index_with_the_next_end(store: Store) -> None:
    store.retention = 1
    for name in ("first", "second"):
        await store.create(a_job(name), "{}")
    await store.update("first", partial(Job.cancel, now=time.time()))
    while await store.client.exists(store.records.key("first", "record")):
        await asyncio.sleep(0.05)
    await store.update("second", partial(Job.cancel, now=time.time()))
    assert await store.client.zrange(store.records.index("cancelled"), 0, -1) == ["second"]
    assert [job.id for job in await store.latest("cancelled", 10)] == ["second"]


async def test_a_record_of_a_later_version_is_not_listed_and_no_obstacle(store: Store) -> None:
    await store.create(a_job("known"), "{}")
    await store.create(a_job("unknown"), "{}")
    await store.client.set(store.records.key("unknown", "record"), '{"status": "of a later version"}')
    assert [job.id for job in await store.latest(None, 10)] == ["known"]


async def test_a_record_of_a_later_version_is_left_to_it(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.client.set(store.records.key("j", "record"), '{"status": "of a later version"}')
    with pytest.raises(NotFound):
        await store.update("j", partial(Job.cancel, now=1))
    assert await store.due(time.time(), 10) == []
    assert await store.due(time.time() + 60, 10) == ["j"]
    with pytest.raises(Unavailable, match="a later version"):
        await store.create(a_job(), "{}")
    await store.client.zrem(store.records.due_key, "j")
    with pytest.raises(NotFound):
        await store.update("j", partial(Job.cancel, now=1))
    assert await store.due(time.time() + 60, 10) == []


async def test_a_connection_from_before_a_restart_is_replaced(store: Store) -> None:
    await store.create(a_job(), "{}")
    async with redis_client.connect(store.settings) as other:
        await other.client_kill_filter(_type="normal", skipme=True)
    assert (await store.get("j")).id == "j"


async def test_what_is_listed_has_that_status_now(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.client.zadd(store.records.index("failed"), {"j": 1})  # as when it changes between two looks
    assert await store.latest("failed", 10) == []

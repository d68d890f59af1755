"""What only the store in Redis has: expiry, and a server that may not answer."""

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from pydantic import RedisDsn

from app.errors import Unavailable
from app.jobs import connection, queue
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from tests.jobs.test_queue import Broker, Order, T


def a_job() -> Job:
    return Job(id="j", task="t", fingerprint="f", request_id="r", created_at=0.0, due=0.0)


async def lifetimes(store: Store) -> dict[str, Any]:
    keys = [key async for key in store.client.scan_iter(f"{store.prefix}:*")]
    return {str(key).removeprefix(f"{store.prefix}:"): await store.client.ttl(key) for key in keys}


async def test_a_job_that_has_not_ended_never_expires(store: Store) -> None:
    await store.create(a_job(), "{}")
    keys = ["job:j", "job:j:payload", "job:j:events", "jobs:due", "jobs:queued"]
    assert await lifetimes(store) == dict.fromkeys(keys, -1)


async def test_all_of_an_ended_job_expires_together(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", partial(Job.cancel, now=time.time()), result="{}")
    ends = await lifetimes(store)
    assert sorted(ends) == ["job:j", "job:j:events", "job:j:payload", "job:j:result", "jobs:cancelled"]
    assert all(store.retention - 5 < seconds <= store.retention for seconds in ends.values())


async def test_a_job_that_runs_again_expires_no_more(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", lambda job: job.model_copy(update={"status": "failed", "due": None, "ended_at": 1.0}))
    await store.update("j", partial(Job.again, now=time.time()))
    assert set((await lifetimes(store)).values()) == {-1}


@pytest.mark.parametrize("junk", ['{"status": "of a later version"}', None])
async def test_records_that_can_not_be_read_or_are_gone_hold_up_no_other_job(store: Store, junk: str | None) -> None:
    for number in range(queue.BATCH + 1):
        await store.client.zadd(store.due_key, {f"junk-{number}": number})
        if junk:
            await store.client.set(f"{store.prefix}:job:junk-{number}", junk)
    broker = Broker()
    jobs = JobQueue(store, broker)
    async with jobs.relaying():
        job = await jobs.enqueue(T, Order(what="tea"), caller="c")
        assert await asyncio.wait_for(broker.ids.get(), 5) == job.id
    assert broker.ids.empty()


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

    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.05)
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
    found = await asyncio.gather(*(store.get("j") for _ in range(200)))
    assert len(found) == 200
    assert len(await store.client.client_list()) <= connection.CONNECTIONS + 5

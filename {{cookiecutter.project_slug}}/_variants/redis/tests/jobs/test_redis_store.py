"""What only the store in Redis has: expiry, and a server that may not answer."""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
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
from app.jobs.queue import JobQueue
from app.jobs.record_scripts import FORGET
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.status import Backlog, Progress
from app.jobs.store import Store
from tests.jobs.fakes import Broker, Jobs, Order, T, dispatched_job

DAY = 86_400
SCANNED = 10_000  # keys at a time: other tests leave many of theirs
UNWRITTEN = 30 * DAY  # seconds that a caller's index of jobs that have not ended is kept without a write, at least


def a_job(id: str = "j") -> Job:  # noqa: A002
    return Job(id=id, task="t", fingerprint="f", request_id="r", created_at=0.0, due=0.0)


async def lifetimes(store: Store) -> dict[str, Any]:
    prefix = f"{store.settings.queue_name}:"
    keys = [key async for key in store.client.scan_iter(f"{prefix}*", SCANNED)]
    return {str(key).removeprefix(prefix): await store.client.ttl(key) for key in keys}


async def all_keys(store: Store) -> set[str]:
    return set(await lifetimes(store))


def index_of(store: Store, status: str, caller: str = "anonymous") -> str:
    return store.records.index(status, caller).removeprefix(f"{store.settings.queue_name}:")


async def test_a_job_that_has_not_ended_never_expires(store: Store) -> None:
    await store.create(a_job(), "{}")
    ends = await lifetimes(store)
    assert UNWRITTEN < ends.pop(index_of(store, "queued")) <= UNWRITTEN + DAY
    keys = ["job:j:record", "job:j:payload", "job:j:events", "jobs:due", "jobs:waits", "jobs:queued"]
    assert ends == dict.fromkeys(keys, -1)


async def test_all_of_an_ended_job_expires_together(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", partial(Job.cancel, now=time.time()), result="{}")
    ends = await lifetimes(store)
    indexes = ["jobs:cancelled", index_of(store, "cancelled")]
    assert sorted(ends) == ["job:j:events", "job:j:payload", "job:j:record", "job:j:result", *indexes]
    assert all(store.retention - 5 < seconds <= store.retention for seconds in ends.values())


async def test_a_job_that_runs_again_expires_no_more(store: Store) -> None:
    await store.create(a_job(), "{}")
    await store.update("j", lambda job: job.model_copy(update={"status": "failed", "due": None, "ended_at": 1.0}))
    await store.update("j", partial(Job.again, now=time.time()))
    ends = await lifetimes(store)
    assert ends.pop(index_of(store, "queued")) > UNWRITTEN
    assert set(ends.values()) == {-1}


async def test_a_caller_s_index_lasts_longer_than_its_jobs_wait(store: Store) -> None:
    later = time.time() + 3 * UNWRITTEN
    await store.create(a_job("later").model_copy(update={"due": later}), "{}")
    await store.create(a_job("now"), "{}")
    await store.create(a_job("never").model_copy(update={"caller": "you", "due": 1e308}), "{}")
    ends = await lifetimes(store)
    assert 4 * UNWRITTEN < ends[index_of(store, "queued")] <= 4 * UNWRITTEN + DAY + 1
    assert ends[index_of(store, "queued", "you")] > 4 * UNWRITTEN
    await store.client.expire(store.records.index("queued", "anonymous"), 1)
    await store.update("now", partial(Job.dispatched, now=time.time(), pause=1))
    assert (await lifetimes(store))[index_of(store, "queued")] > UNWRITTEN


async def test_a_script_finds_the_jobs_of_everybody(store: Store) -> None:
    """As the README says: it has no caller, and acts for each job's."""
    for caller in ("me", "you"):
        await store.create(a_job(f"of {caller}").model_copy(update={"caller": caller}), "{}")
        await store.update(f"of {caller}", lambda job: job.model_copy(update={"status": "failed", "due": None}))
    for job in await store.latest("failed", 100):
        await JobQueue(store).retry(job.id, caller=job.caller)
    assert [(job.id, job.status) for job in await store.latest(None, 100)] == [
        ("of me", "queued"),
        ("of you", "queued"),
    ]


async def as_before_the_index(store: Store) -> None:
    """A version without indexes of callers leaves everything else."""
    for key in await all_keys(store):
        if key.startswith("jobs:of:"):
            await store.client.delete(f"{store.settings.queue_name}:{key}")


async def test_a_job_of_a_version_without_the_index_is_found_and_listed_when_it_is_written_again(store: Store) -> None:
    for name in ("dispatched", "ended", "left"):
        await store.create(a_job(name), "{}")
    await as_before_the_index(store)
    since = await store.client.zscore(store.records.index("queued"), "dispatched")
    assert (await JobQueue(store).get("left", caller="anonymous")).status == "queued"
    assert await store.latest(None, 10, "anonymous") == []
    await store.update("dispatched", partial(Job.dispatched, now=1.0, pause=1))  # keeps its status
    assert [job.id for job in await store.latest(None, 10, "anonymous")] == ["dispatched"]
    assert await store.client.zscore(store.records.index("queued", "anonymous"), "dispatched") == since
    await JobQueue(store).cancel("ended", caller="anonymous")
    assert [job.id for job in await store.latest("cancelled", 10, "anonymous")] == ["ended"]
    assert [job.id for job in await store.latest(None, 10, "anonymous")] == ["ended", "dispatched"]
    assert len(await store.latest(None, 10)) == 3


async def test_what_a_version_without_the_index_has_ended_leaves_no_key_for_ever(store: Store) -> None:
    await store.create(a_job(), "{}")
    index = store.records.index("queued", "anonymous")
    lasts = (await lifetimes(store))[index_of(store, "queued")]
    await store.update("j", partial(Job.cancel, now=time.time()))
    await as_before_the_index(store)
    await store.client.zadd(index, {"j": 1.0})
    await store.client.expire(index, lasts)
    assert [job.status for job in await store.latest(None, 10, "anonymous")] == ["cancelled"]
    assert await store.latest("queued", 10, "anonymous") == []
    await store.create(a_job("other"), "{}")
    await store.client.zadd(store.records.index("cancelled", "anonymous"), {"j": 2.0})
    assert [job.id for job in await store.latest(None, 3, "anonymous")] == ["other", "j"]
    await store.update("other", partial(Job.cancel, now=time.time()))
    await store.client.delete(store.records.key("j", "record"), store.records.key("other", "record"))  # they expire
    assert await store.latest(None, 10, "anonymous") == []
    assert -1 not in (await lifetimes(store)).values()


async def test_a_job_that_a_version_without_the_index_has_begun_does_not_wait(store: Store) -> None:
    now = await store.now()
    for job_id in ("begun", "ended"):
        await store.create(dispatched_job(job_id), "{}")
        await store.begin(job_id, lambda job, now: job.begin("me", now, 15, 3))
    await store.update("ended", partial(Job.cancel, now=now))
    await store.client.zadd(store.records.waits_key, {"begun": 1.0, "ended": 2.0})  # as it would leave them
    assert await store.backlog() == Backlog(0, 1, 0, 0.0)
    assert await store.client.exists(store.records.waits_key) == 0


async def test_a_job_whose_record_is_gone_is_not_counted_for_ever(store: Store) -> None:
    await store.create(dispatched_job("j"), "{}")
    await store.client.delete(store.records.key("j", "record"))
    assert (await store.backlog()).queued == 1
    await Jobs(store, Broker()).relay.dispatch_due()
    assert await store.backlog() == Backlog(0, 0, 0, 0.0)


async def test_nothing_comes_back_when_redis_has_lost_all(store: Store) -> None:
    await store.create(dispatched_job("j"), "{}")
    job, _ = await store.begin("j", lambda job, now: job.begin("me", now, 15, 3))
    for key in await all_keys(store):
        await store.client.delete(f"{store.settings.queue_name}:{key}")
    with pytest.raises(NotFound):
        await store.update("j", partial(Job.succeed, holder="me", now=time.time(), progress=Progress()), "1", seen=job)
    assert await all_keys(store) == set()


async def test_a_list_costs_the_same_however_many_jobs_there_are(store: Store) -> None:
    async def seconds(caller: str) -> float:
        began = time.perf_counter()
        for _ in range(50):
            assert [job.id for job in await store.latest("queued", 1, caller)] == [f"of {caller}"]
        return time.perf_counter() - began

    for caller in ("one", "many"):
        await store.create(a_job(f"of {caller}").model_copy(update={"caller": caller}), "{}")
    few = min([await seconds("one") for _ in range(5)])
    for first in range(0, 20_000, 10_000):
        others = {str(number): float(number) for number in range(first, first + 10_000)}
        for index in (store.records.index("queued", "many"), store.records.index("queued")):
            await store.client.zadd(index, others)
    assert min([await seconds("one") for _ in range(5)]) < 20 * few
    assert min([await seconds("many") for _ in range(5)]) < 20 * few


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
        assert await asyncio.wait_for(broker.ids.get(), 10) == job.id
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


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been sent to Redis, by the round trip."""
    sent = []
    send = Connection.send_packed_command

    async def counted(connection: Connection, command: Any, *options: Any, **more: Any) -> None:
        sent.append(command)
        await send(connection, command, *options, **more)

    monkeypatch.setattr(Connection, "send_packed_command", counted)
    return sent


async def test_an_attempt_takes_three_round_trips(
    store: Store, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    """A job of milliseconds is hardly more than these."""
    monkeypatch.setitem(TASKS, "t", T)
    await store.create(dispatched_job("warm"), '{"what":"tea"}')
    await store.create(dispatched_job("j"), '{"what":"tea"}')
    await run(store, "warm", store.settings)
    sent.clear()
    await run(store, "j", store.settings)
    assert (len(sent), (await store.get("j")).status) == (3, "succeeded")


async def test_a_job_is_accepted_in_one_round_trip(
    store: Store, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    monkeypatch.setattr("app.jobs.records.HEARD_SECONDS", 60.0)
    jobs = JobQueue(store)
    await jobs.enqueue(T, Order(what="tea"), caller="c")  # hears the time
    sent.clear()
    await jobs.enqueue(T, Order(what="tea"), caller="c", key="k")
    assert len(sent) == 1


async def test_another_caller_s_id_takes_as_many_round_trips_as_an_unknown_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    """Else the time would tell that there is such a job."""
    monkeypatch.setattr("app.jobs.records.HEARD_SECONDS", 60.0)
    jobs = JobQueue(store)
    mine = (await jobs.enqueue(T, Order(what="tea"), caller="me")).id
    failed = (await jobs.enqueue(T, Order(what="milk"), caller="me")).id
    await store.update(failed, lambda job: job.model_copy(update={"status": "failed", "due": None}))
    later = "1" * 32
    await store.client.set(store.records.key(later, "record"), '{"status": "of a later version"}')
    calls: list[Callable[..., Awaitable[object]]] = [jobs.get, jobs.cancel, jobs.retry, partial(jobs.resume, last_id=3)]
    await store.client.script_load(FORGET)
    for call in calls:
        took = []
        for job_id in (mine, failed, later, "0" * 32):
            sent.clear()
            with pytest.raises(NotFound, match=r"^there is no such job$"):
                await call(job_id, caller="you")
            took.append(len(sent))
        assert len(set(took)) == 1, took


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
        settings = job_settings.model_copy(update={"redis_url": RedisDsn(f"redis://127.0.0.1:{port}/0")})
        async with Store.open(settings) as store:
            with pytest.raises(Unavailable):
                await asyncio.wait_for(store.get("j"), 10)


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
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in events)), 10)  # they are told to look first
        assert len(await store.client.client_list()) == before + 1


async def test_after_a_lost_connection_everybody_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "RESUBSCRIBE_SECONDS", 0.01)
    await store.create(a_job(), "{}")
    with store.watch("j") as event:
        for _ in range(3):
            await asyncio.wait_for(event.wait(), 10)
            event.clear()
            assert await store.client.client_kill_filter(_type="pubsub") == 1


async def test_a_connection_that_is_silent_is_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(news, "RESUBSCRIBE_SECONDS", 0.01)
    with store.watch("j") as event:
        for _ in range(3):
            await asyncio.wait_for(event.wait(), 10)
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
    assert await store.client.zrange(store.records.index("cancelled", "anonymous"), 0, -1) == ["second"]
    assert [job.id for job in await store.latest("cancelled", 10)] == ["second"]


async def test_an_index_of_many_whose_time_is_over_is_pruned_in_parts(store: Store) -> None:
    """All of them at once would hold up everybody: 100,000 for 0.1 s."""
    indexes = [store.records.index("cancelled"), store.records.index("cancelled", "anonymous")]
    for index in indexes:
        await store.client.zadd(index, {str(number): float(number) for number in range(2500)})
    for left in (1500, 500, 0):
        await store.create(a_job(f"j-{left}"), "{}")
        await store.update(f"j-{left}", partial(Job.cancel, now=time.time()))
        assert [await store.client.zcount(index, 0, 2500) for index in indexes] == [left, left]
    assert [await store.client.zcard(index) for index in indexes] == [3, 3]


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

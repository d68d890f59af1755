"""Answers that any process of the service can read and stop, by what is in Redis."""

import asyncio
import contextvars
import gc
import json
import re
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.chat import answer_records
from app.chat.answer import Answer
from app.chat.answer_records import Records
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_turns import AT_ONCE
from app.chat.answers import fingerprint_of
from app.chat.known_answer import Asked, KnownAnswer
from app.errors import Conflict, NotFound, Unavailable
from app.streams.events import Done, Error, Event, Reasoning, Status, StreamFault, Token, Tool, encode
from tests.chat.replicas import BRISK, PATIENT, QUESTION, Service, read, service

LOST = "producer_lost"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be waited for in vain."""
    monkeypatch.setattr("app.chat.answer_writer.READ_LATELY_MS", 300)
    monkeypatch.setattr("app.chat.answer_mirrors.STAMP_SECONDS", 0.1)
    monkeypatch.setattr("app.chat.answer_mirror.KEPT_SECONDS", 0.2)
    monkeypatch.setattr("app.chat.known_answer.FIRST_READER_SECONDS", 0.3)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a Redis that is away. With one that is there, a busy machine takes longer."""
    monkeypatch.setattr("app.chat.answer_names.CLAIM_SECONDS", 0.4)
    monkeypatch.setattr("app.chat.answer_names.WAIT_SECONDS", 0.2)
    monkeypatch.setattr("app.redis_client.ANSWER_SECONDS", 0.4)


@pytest.fixture
async def shared(answer_settings: Callable[..., AnswerSettings]) -> AsyncIterator[Service]:
    async with service(answer_settings()) as opened:
        yield opened


def names(events: list[Event]) -> list[str]:
    return [event.event_type for event in events]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_another_process_reads_the_same_events_from_any_place(shared: Service) -> None:
    writes, reads = await shared.replica("a", goes_on := asyncio.Event(), "b"), await shared.replica()
    answer = await writes.start()
    await read(answer, until="a")
    known = await reads.get(answer)
    assert [vars(event) for event in await read(known, 1, until="a")] == [{"text": "a"}]
    goes_on.set()
    assert await read(known) == await read(answer) == [Status("thinking", answer.id), Token("a"), Token("b"), Done()]
    assert (known.reason, known.whole) == ("end", True)
    assert await read(await writes.get(answer), 2) == [Token("b"), Done()]  # also here, when only Redis has it


async def test_an_answer_is_its_callers_everywhere(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for as often as one that nobody knows: else the time would tell that it is there."""
    looks = 0
    look = Records.look

    async def counted(records: Records, wanted: Any, caller: str | None = None) -> Any:
        nonlocal looks
        looks += caller is not None
        return await look(records, wanted, caller)

    monkeypatch.setattr(Records, "look", counted)
    writes, reads = await shared.replica("a", 60.0), await shared.replica()
    answer = await writes.start()
    await read(answer, until="a")
    for begun in range(2):  # at first nobody reads it elsewhere
        took = set()
        with monkeypatch.context() as patch:
            patch.setattr("app.chat.answer_store.APPEARS_SECONDS", (0.0, 0.01))
            for replica in (writes, reads):
                for wanted, caller in ((answer.id, "you"), ("unknown", "you"), ("unknown", "me")):
                    looks = 0
                    with pytest.raises(NotFound, match=r"^no such answer$"):
                        await replica.answers.get(wanted, caller)
                    took.add(looks)
        assert took == {2}  # a pause each
        if not begun:
            state = f"{shared.settings.queue_name}:answer:{answer.id}:state"
            assert not await shared.redis.hexists(state, "read")  # else the answer would run for whoever asks for it
            known = await reads.get(answer)  # as long as somebody has it, it is at hand
            assert names(await read(known, until="a")) == ["status", "token"]
            assert await shared.redis.hexists(state, "read")


async def test_another_process_stops_it_while_the_model_is_silent(shared: Service) -> None:
    writes, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica()
    answer = await writes.start()
    await read(answer, until="a")
    known = await reads.get(answer)
    await known.stop()
    assert names(await read(known)) == ["status", "token", "done"]
    assert (known.reason, known.stopped, answer.reason, answer.stopped) == ("cancelled", True, "cancelled", True)
    await known.stop()
    assert writes.provider.closed.is_set()


async def test_who_reads_elsewhere_keeps_it_running(answer_settings: Callable[..., AnswerSettings]) -> None:
    async with service(answer_settings(answer_grace_seconds=0.3)) as shared:
        writes, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica()
        answer = await writes.start()
        known = await reads.get(answer)
        with known.reading():
            await asyncio.sleep(0.8)
            assert answer.running
        await until(lambda: not answer.running)
        assert (answer.reason, answer.stopped) == ("cancelled", False)


async def test_two_processes_that_get_the_same_key_at_once_make_one_answer(shared: Service) -> None:
    replicas = [await shared.replica("a") for _ in range(4)]
    answers = await asyncio.gather(*(replica.ask("k") for replica in replicas for _ in range(5)))
    assert len({answer.id for answer in answers}) == 1
    for answer in answers:
        assert names(await read(answer)) == ["status", "token", "done"]
    assert sum(len(replica.provider.asked) for replica in replicas) == 1
    with pytest.raises(Conflict):
        await replicas[1].answers.ask([*QUESTION, *QUESTION], "me", key="k")
    assert (await replicas[2].answers.ask(QUESTION, "you", key="k")).id != answers[0].id


async def test_one_that_has_failed_elsewhere_is_asked_anew_once(shared: Service) -> None:
    fails, *others = [await shared.replica(step) for step in (RuntimeError("on purpose"), "a", "a")]
    failed = await fails.ask("k")
    assert names(await read(failed)) == ["status", "error", "done"]
    await until(lambda: not fails.store._here.ended())
    answers = await asyncio.gather(*(other.ask("k") for other in others))
    assert len({answer.id for answer in answers} | {failed.id}) == 2
    assert names(await read(answers[0])) == ["status", "token", "done"]
    assert (await fails.ask("k")).id == answers[0].id


@pytest.mark.usefixtures("impatient")
async def test_a_key_whose_answer_was_never_made_is_refused_until_its_lease_is_over(
    shared: Service,
) -> None:
    replica = await shared.replica("a", times=BRISK)
    asked = Asked("never", "me", fingerprint_of(QUESTION), ("key", "me", "k"))
    dead = Records(shared.redis, shared.settings.queue_name, 600, BRISK, "dead")
    assert await dead.reserve(asked, None, full=False) is None
    assert await dead.reserve(asked, None, full=False) is None  # its own, again
    with pytest.raises(Unavailable):
        await replica.ask("k")
    await asyncio.sleep(BRISK.lease)
    assert names(await read(await replica.ask("k"))) == ["status", "token", "done"]


async def test_who_waits_for_an_answer_that_another_process_has_not_begun_holds_up_nobody(shared: Service) -> None:
    """Else a process that dies would hold up all questions of a caller, until its leases are over."""
    replica, keys = await shared.replica("a"), [f"k{number}" for number in range(AT_ONCE)]
    dead = Records(shared.redis, shared.settings.queue_name, 600, PATIENT, "dead")
    for key in keys:
        asked = Asked(f"never {key}", "me", fingerprint_of(QUESTION), ("key", "me", key))
        assert await dead.reserve(asked, None, full=False) is None
    waiting = [asyncio.create_task(replica.ask(key)) for key in keys]
    await until(lambda: len(replica.store._mirrors._followed) == len(keys))
    assert names(await read(await replica.ask("another"))) == ["status", "token", "done"]
    assert not any(each.done() for each in waiting)
    for each in waiting:
        each.cancel()


async def test_who_waits_for_a_key_that_another_process_gives_back_makes_the_answer(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.chat.answer_names.CLAIM_SECONDS", 10.0)  # less than the lease
    replica = await shared.replica("a", times=PATIENT)
    asked = Asked("never", "me", fingerprint_of(QUESTION), ("key", "me", "k"))
    stops = Records(shared.redis, shared.settings.queue_name, 600, PATIENT, "stops")
    assert await stops.reserve(asked, None, full=False) is None
    waiting = asyncio.create_task(replica.ask("k"))
    await until(lambda: replica.store._mirrors._followed)
    await stops.give_back(asked)
    assert names(await read(await waiting)) == ["status", "token", "done"]


async def test_one_whose_process_has_died_is_ended_by_its_readers_once_and_told_of_once(
    shared: Service, caplog: pytest.LogCaptureFixture
) -> None:
    dies = await shared.replica("a", 60.0, times=BRISK)
    others = [await shared.replica(times=BRISK) for _ in range(3)]
    answer = await dies.start()
    known = [await other.get(answer) for other in others for _ in range(3)]
    await read(known[0], until="a")
    dies.stand_still()
    *events, error, done = await read(known[0])
    assert (names(events), vars(error)["code"], vars(error)["retryable"]) == (["status", "token"], LOST, True)
    assert done == Done("error")
    for each in known:
        assert await read(each) == [*events, error, done]
    assert await read(await (await shared.replica()).get(answer)) == [*events, error, done]
    lost = [vars(record)["stream"] for record in caplog.records if record.message.startswith("an answer is lost")]
    assert lost == [answer.id]


async def test_who_has_read_more_than_redis_has_gets_the_whole_end(shared: Service) -> None:
    """Also if that ends at the very place up to which it has read."""
    dies, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica(times=BRISK)

    async def read_more(answer: Answer, more: int) -> None:
        known = await reads.get(answer)
        await read(known, until="a")
        dies.stand_still()
        with pytest.raises(StreamFault):  # it was there before the end
            await read(known, 2 + more)
        ended = await reads.get(answer)
        assert ended.goes_on_at(2 + more) == 2
        assert names(await read(ended, 2)) == ["error", "done"]
        assert ended.goes_on_at(1) == 1

    answers = [await dies.start() for _ in range(3)]
    await until(lambda: all(dies.store._writer._entries[answer.id].written == 2 for answer in answers))
    await asyncio.gather(*(read_more(answer, more) for more, answer in enumerate(answers, 1)))


async def test_who_was_only_stopped_finds_its_answer_ended_and_closes_its_model(
    shared: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.usage")
    stands, reads = (
        await shared.replica("a", goes_on := asyncio.Event(), "b", 60.0, times=BRISK),
        await shared.replica(times=BRISK),
    )
    answer = await stands.start()
    known = await reads.get(answer)
    await read(known, until="a")
    stands.stand_still()
    goes_on.set()
    await read(answer, until="b")
    end = await read(known)
    local = asyncio.create_task(read(answer))
    stands.go_on()
    with pytest.raises(StreamFault) as told:
        await local
    assert told.value.reason == "shutdown"  # it comes back, with a cursor past the end of what Redis has
    await until(lambda: stands.provider.closed.is_set() and not answer.running)
    assert await read(await stands.get(answer)) == end
    (line,) = (vars(record) for record in caplog.records if record.name == "app.usage")
    assert (line["reason"], line["error"], line["outcome"]) == ("error", LOST, "elsewhere")


async def test_a_redis_that_stood_still_for_longer_than_a_lease_ends_no_answer(shared: Service) -> None:
    writes, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica(times=BRISK)
    answer = await writes.start()
    known = await reads.get(answer)
    await read(known, until="a")
    await shared.redis.client_pause(1000, all=True)
    await asyncio.sleep(1.3)
    assert (answer.running, known.running) == (True, True)


async def test_when_redis_has_lost_its_data_a_running_answer_is_written_anew(shared: Service) -> None:
    writes, reads = await shared.replica("a", goes_on := asyncio.Event(), "b"), await shared.replica()
    answer = await writes.ask("k")
    known = await reads.get(answer)
    await read(known, until="a")
    for key in await shared.keys():
        await shared.redis.delete(key)
    await shared.redis.script_flush()
    goes_on.set()
    assert await read(known) == await read(answer)
    again = await (await shared.replica()).ask("k")
    assert (again.id, names(await read(again))) == (answer.id, ["status", "token", "token", "done"])


async def test_what_redis_has_lost_of_the_end_is_written_again(shared: Service) -> None:
    writes, reads = await shared.replica("a", "b", goes_on := asyncio.Event(), "c"), await shared.replica()
    answer = await writes.start()
    known = await reads.get(answer)
    await read(known, until="b")
    await shared.redis.ltrim(f"{shared.settings.queue_name}:answer:{answer.id}:events", 0, 0)
    goes_on.set()
    await read(known)
    fresh = await (await shared.replica()).get(answer)
    assert await read(fresh) == await read(known) == await read(answer)


async def test_a_reader_who_has_read_what_is_lost_is_sent_back_for_the_end(shared: Service) -> None:
    dies, reads = await shared.replica("a", "b", 60.0, times=BRISK), await shared.replica(times=BRISK)
    answer = await dies.start()
    known = await reads.get(answer)
    await read(known, until="b")
    dies.stand_still()
    await shared.redis.ltrim(f"{shared.settings.queue_name}:answer:{answer.id}:events", 0, 0)
    with pytest.raises(StreamFault):
        await read(known, 3)
    ended = await reads.get(answer)
    assert (names(await read(ended)), ended.log.end_place) == (["status", "error", "done"], 1)


@pytest.mark.usefixtures("impatient")
async def test_without_redis_a_question_is_answered_here_and_written_when_it_is_back(
    shared: Service, caplog: pytest.LogCaptureFixture
) -> None:
    here, elsewhere = await shared.replica("a", goes_on := asyncio.Event(), "b", times=BRISK), await shared.replica()
    await shared.redis.client_pause(1000, all=True)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await here.ask()
    with pytest.raises(Unavailable):
        await here.ask("k")
    assert loop.time() - began < 0.95
    assert "begins without Redis" in caplog.text
    await read(answer, until="a")
    goes_on.set()
    await read(answer)
    async with asyncio.timeout(30):  # it is back
        while not any(key.endswith(f"{answer.id}:events") for key in await shared.keys()):
            await asyncio.sleep(0.01)
    assert await read(await elsewhere.get(answer)) == await read(answer)


async def test_what_redis_refuses_is_logged_and_shown_in_its_words(
    shared: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.chat")
    replica = await shared.replica("a", goes_on := asyncio.Event(), "b", times=BRISK)
    answer = await replica.start()
    await read(answer, until="a")
    assert await replica.store.check() == "ok"
    await shared.redis.config_set("maxmemory", 1)
    try:
        assert "maxmemory" in await replica.store.check()
        await until(lambda: re.search(r"not written to Redis.*maxmemory", caplog.text))
        await replica.ask()
        assert re.search(r"begins without Redis.*maxmemory", caplog.text)
    finally:
        await shared.redis.config_set("maxmemory", 0)
    assert await replica.store.check() == "ok"
    await until(lambda: "written to Redis again" in caplog.text)
    goes_on.set()
    assert names(await read(answer)) == ["status", "token", "token", "done"]


async def test_every_key_expires_from_its_first_write_on(answer_settings: Callable[..., AnswerSettings]) -> None:
    async with service(answer_settings(answer_retention_seconds=0)) as shared:
        replica = await shared.replica("a", goes_on := asyncio.Event(), times=BRISK)
        answer = await replica.ask("k")
        await read(answer, until="a")
        await until(lambda: replica.store._writer._entries[answer.id].written)
        keys = await shared.keys()
        assert len(keys) == 5  # nothing has ended yet
        for key in keys:
            assert 8 * BRISK.lease < await shared.redis.pttl(key) / 1000 < 12 * BRISK.lease, key
        goes_on.set()
        await read(answer)
        await asyncio.sleep(1)
        assert [key for key in await shared.keys() if ":answer:" in key or ":name:" in key] == []
        with pytest.raises(NotFound):
            await replica.get(answer)
        for key in await shared.keys():
            assert await shared.redis.ttl(key) > 0, key


async def test_of_those_that_have_ended_the_oldest_make_way_in_redis(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_records, "BUDGET_BYTES", 4000)
    replica = await shared.replica("x" * 1000)
    answers = []
    for _ in range(6):
        answers.append(await replica.start())
        await read(answers[-1])
        await until(lambda: not replica.store._here.ended())
    with pytest.raises(NotFound):
        await replica.get(answers[0])
    assert names(await read(await replica.get(answers[-1]))) == ["status", "token", "done"]
    total = int(await shared.redis.hget(f"{shared.settings.queue_name}:answers:bytes", "total") or 0)
    assert 3000 < total < 6000


async def test_what_a_later_version_writes_is_kept_and_passed_on(shared: Service) -> None:
    writes, reads = await shared.replica("a", 60.0), await shared.replica()
    answer = await writes.start()
    known = await reads.get(answer)
    await read(known, until="a")
    writes.stand_still()
    events = f"{shared.settings.queue_name}:answer:{answer.id}:events"
    data = {"id": "c-1", "name": "done", "event_type": "done", "data": [1]}
    await shared.redis.rpush(events, f"cited {json.dumps(data)}", 'token {"text":"b","later":true}')
    cited, token = (await read(known, until="b"))[2:]
    assert (cited.event_type, cited.data()) == ("cited", data)
    assert encode(cited, 3).startswith(b"event: cited\nid: 3\n")
    assert (isinstance(token, Token), vars(token)) == (True, {"text": "b", "later": True})


async def test_what_a_model_thinks_and_its_tools_are_read_elsewhere(shared: Service) -> None:
    said = [
        Reasoning("hm"),
        Tool("1", "find", "called", {"q": "tea"}),
        Tool("1", "find", "failed", output="no such shop"),
    ]
    writes, reads = await shared.replica(*said, "a"), await shared.replica()
    events = await read(await reads.get(await writes.start()))
    assert events[1:-2] == said
    assert [event.data() for event in events[2:4]] == [event.data() for event in said[1:]]


async def test_events_that_are_ready_together_and_large_arrive_whole(shared: Service) -> None:
    writes, reads = await shared.replica(*["x" * 3000] * 1000), await shared.replica()
    writes.answers._settings.max_answer_chars = 10_000_000
    answer = await writes.start()
    assert await read(await reads.get(answer)) == await read(answer)


async def test_an_idle_process_sends_no_commands(shared: Service) -> None:
    writes, reads = await shared.replica("a"), await shared.replica()
    answer = await writes.start()
    await read(await reads.get(answer))
    await asyncio.sleep(0.3)

    async def commands() -> int:
        return int((await shared.redis.info("stats"))["total_commands_processed"])

    for _ in range(20):  # others may use this server, now and then
        before = await commands()
        await asyncio.sleep(0.5)
        if (sent := await commands() - before) <= 1:
            break
    assert sent <= 1


async def test_once_the_drain_time_is_over_a_shared_answer_goes_on_for_its_readers_elsewhere(
    answer_settings: Callable[..., AnswerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.chat.answer_store.UNREAD_SECONDS", 0.3)
    async with service(answer_settings(answer_drain_seconds=30)) as shared:
        script = ("a", goes_on := asyncio.Event(), "b")
        drains, reads = await shared.replica(*script, times=BRISK), await shared.replica()
        drains.provider.script = script
        answer, unread = await drains.start(), await drains.start()
        known = await reads.get(answer)
        with known.reading():
            await read(known, until="a")
            await read(unread, until="a")
            await until(lambda: all(drains.store._writer.is_shared(each) for each in (answer, unread)))
            drains.answers.drain()
            await until(lambda: not unread.running)
            assert (unread.reason, answer.running) == ("cancelled", True)
            goes_on.set()
            assert names(await read(known)) == ["status", "token", "token", "done"]


async def test_while_redis_is_away_no_answer_counts_as_unread(
    answer_settings: Callable[..., AnswerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one of which there was nothing to write when it went."""
    monkeypatch.setattr("app.chat.answer_store.UNREAD_SECONDS", 1.0)
    monkeypatch.setattr("app.redis_client.ANSWER_SECONDS", 0.5)
    async with service(answer_settings(answer_drain_seconds=30)) as shared:
        drains = await shared.replica("a", 60.0, times=replace(BRISK, lease=30.0, renew=0.4))
        reads = await shared.replica()
        silent = await drains.start()
        await read(silent, until="a")
        drains.provider.script = ("a", *(0.005, "b") * 1000)
        await drains.start()
        known = await reads.get(silent)
        with known.reading():
            await read(known, until="a")
            await until(lambda: drains.store._writer.is_shared(silent))
            drains.answers.drain()
            await shared.redis.client_pause(1300, all=True)
            await asyncio.sleep(2.5)
            assert silent.running


@pytest.mark.parametrize("hurries", [True, False])
async def test_it_is_lost_when_nobody_can_wait_any_more(
    answer_settings: Callable[..., AnswerSettings], hurries: bool
) -> None:
    async with service(answer_settings(answer_drain_seconds=30 if hurries else 0.2)) as shared:
        drains, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica()
        answer = await drains.start()
        known = await reads.get(answer)
        with known.reading():
            await read(known, until="a")
            await until(lambda: drains.store._writer.is_shared(answer))
            drains.answers.drain()
            if hurries:
                assert answer.reason is None
                drains.answers.drain()
            *_, error, done = await read(known)
        assert isinstance(error, Error)
        assert (error.code, done) == (LOST, Done("error"))


async def test_one_that_redis_does_not_have_is_lost_with_the_drain_time(shared: Service) -> None:
    replica = await shared.replica("a", 60.0)
    replica.stand_still()
    answer = await replica.start()
    await read(answer, until="a")
    replica.answers.drain()
    assert answer.reason == "error"


async def test_who_reads_elsewhere_counts_without_a_grace_too(answer_settings: Callable[..., AnswerSettings]) -> None:
    async with service(answer_settings(answer_grace_seconds=0)) as shared:
        writes, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica(times=BRISK)
        answer = await writes.start()
        with answer.reading():
            known = await reads.get(answer)
            with known.reading():
                await asyncio.sleep(0.5)  # the writer has heard of it
                with answer.reading():
                    pass
        assert answer.running
        await until(lambda: not answer.running)


async def test_all_readers_of_an_answer_share_what_was_read_of_it(shared: Service) -> None:
    writes, reads = await shared.replica("a"), await shared.replica()
    answer = await writes.start()
    running = await asyncio.gather(*(reads.get(answer) for _ in range(5)))
    await read(running[0])
    await until(lambda: not writes.store._here.ended())
    ended = await asyncio.gather(*(reads.get(answer) for _ in range(5)))
    assert len({id(each) for each in (*running, *ended)}) == 1


async def test_a_mirror_that_nobody_has_read_for_a_while_goes_on_when_it_is_read(shared: Service) -> None:
    writes, reads = await shared.replica("a", goes_on := asyncio.Event(), "b"), await shared.replica()
    known = await reads.get(answer := await writes.start())
    await until(lambda: not reads.store._mirrors._followed)
    goes_on.set()
    assert await read(known) == await read(answer)


async def test_a_chat_is_known_elsewhere_before_its_first_event_is(shared: Service) -> None:
    writes, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica()
    writes.stand_still()
    name = ("chat", "me", "c")

    async def never(known: KnownAnswer) -> bool:
        return False

    answer = await writes.answers.find_or_start(QUESTION, "me", name, "-", never)
    known = await reads.answers.named(name)
    assert known is not None
    await known.stop()
    writes.go_on()
    await until(lambda: not answer.running)
    assert answer.stopped


async def test_whoever_comes_too_late_to_begin_is_kept_out(shared: Service) -> None:
    late, takes_over = await shared.replica("a", 60.0, times=BRISK), await shared.replica("b")
    late.stand_still()
    answer = await late.ask("k")
    await asyncio.sleep(BRISK.lease + 0.1)
    other = await takes_over.ask("k")
    assert other.id != answer.id
    late.go_on()
    await until(lambda: not answer.running)
    assert answer.reason == "error"
    assert (await late.ask("k")).id == other.id


async def test_when_the_budget_is_used_up_by_what_runs_no_more_begin(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_records, "BUDGET_BYTES", 1000)
    replica = await shared.replica("x" * 2000, 60.0)
    answer = await replica.start()
    await read(answer, until="x" * 2000)
    await until(lambda: replica.store._writer.is_shared(answer))
    with pytest.raises(Unavailable):
        await replica.start()


@pytest.mark.usefixtures("impatient")
async def test_what_waits_for_redis_for_long_makes_way(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = await shared.replica("x" * 1000)
    await shared.redis.client_pause(1500, all=True)
    first = await replica.start()
    await read(first)
    monkeypatch.setattr("app.chat.answer_store.MAX_BYTES", first.bytes)
    second = await replica.start()
    assert (replica.store._here.get(first.id), replica.store._here.get(second.id)) == (None, second)


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_stops_writes_on_through_an_outage(
    answer_settings: Callable[..., AnswerSettings],
) -> None:
    async with service(answer_settings(answer_drain_seconds=30)) as shared:
        reads = await shared.replica()
        async with service(shared.settings) as other:
            stops = await other.replica("a", goes_on := asyncio.Event(), "b", times=BRISK)
            answer = await stops.start()
            known = await reads.get(answer)
            await read(known, until="a")
            await until(lambda: stops.store._writer.is_shared(answer))
            stops.answers.drain()
            await other.redis.client_pause(1000, all=True)
            goes_on.set()
            await read(answer)
        assert await read(known) == await read(answer)


async def test_all_that_is_left_is_written_when_a_process_ends(shared: Service) -> None:
    """Also what is more than one write takes."""
    reads = await shared.replica()
    async with service(shared.settings) as other:
        ends = await other.replica(*["a"] * 1000)
        ends.stand_still()
        answer = await ends.start()
        await read(answer)
    assert await read(await reads.get(answer)) == await read(answer)


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_stops_does_not_wait_for_a_redis_that_is_away_for_long(
    answer_settings: Callable[..., AnswerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(answer_settings(answer_drain_seconds=30)) as shared:
        stops = await shared.replica("a", 60.0, times=BRISK)
        answer = await stops.start()
        await until(lambda: stops.store._writer.is_shared(answer))
        stops.answers.drain()
        await shared.redis.client_pause(1500, all=True)
        await until(lambda: not answer.running)
        assert answer.error_code == LOST


async def test_time_without_redis_does_not_count_for_an_answer_that_it_has_lost(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.redis_client.ANSWER_SECONDS", 0.1)
    writes, reads = await shared.replica("a", 60.0, times=BRISK), await shared.replica(times=BRISK)
    answer = await writes.start()
    known = await reads.get(answer)
    with known.reading():
        await read(known, until="a")
        writes.stand_still()
        for key in await shared.keys():
            await shared.redis.delete(key)
        await asyncio.sleep(2 * BRISK.look)  # it has been missed
        await shared.redis.client_pause(700, all=True)
        await asyncio.sleep(0.8)
        writes.go_on()
        await asyncio.sleep(1.2 * BRISK.lease)
        assert known.running


async def test_what_is_left_of_an_answer_without_its_events_is_no_answer(shared: Service) -> None:
    writes, reads = await shared.replica("a"), await shared.replica()
    answer = await writes.start()
    await read(answer)
    await until(lambda: not writes.store._here.ended())
    await shared.redis.delete(f"{shared.settings.queue_name}:answer:{answer.id}:events")
    with pytest.raises(NotFound):
        await reads.get(answer)


async def test_what_stands_behind_the_end_in_redis_holds_up_nobody(shared: Service) -> None:
    """Who comes for the answer would read it again and again: a log takes nothing behind its end."""
    writes, reads = await shared.replica("a"), await shared.replica()
    answer = await writes.start()
    await read(answer)
    await until(lambda: not writes.store._here.ended())
    await shared.redis.rpush(f"{shared.settings.queue_name}:answer:{answer.id}:events", 'token {"text":"late"}')
    async with asyncio.timeout(10):
        known = await reads.get(answer)
    assert await read(known) == [Status("thinking", answer.id), Token("a"), Done()]


async def test_of_an_answer_that_redis_has_a_process_keeps_nothing(shared: Service) -> None:
    """Nor of the request that asked for it, though asyncio may hold up to a hundred timers that are over."""

    class OfRequest:
        pass

    of_request = contextvars.ContextVar[OfRequest]("of_request")
    replica, held = await shared.replica("a"), []

    async def ask() -> None:
        of_request.set(found := OfRequest())
        held.append(weakref.ref(found))
        await read(await replica.start())

    for _ in range(300):
        await asyncio.create_task(ask())
    await until(lambda: not replica.store._here.ended())
    gc.collect()
    assert sum(each() is not None for each in held) <= 100


async def test_one_that_was_reserved_and_never_begun_makes_way(shared: Service) -> None:
    writes = await shared.replica("a")
    running = f"{shared.settings.queue_name}:answers:running"
    await shared.redis.zadd(running, {"never begun": 1})
    await writes.ask(key="k")
    assert await shared.redis.zscore(running, "never begun") is None

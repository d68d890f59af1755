"""How many answers of one caller run at once, whichever processes make them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from time import monotonic

import pytest

from app.admission import Admit
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_turns import AT_ONCE, Turns
from app.chat.answers import Answers
from app.chat.known_answer import KnownAnswer
from app.errors import TooMany, Unavailable
from app.redis_client import StoreAway
from app.settings import Settings
from app.shutdown import Shutdown
from tests.chat.replicas import BRISK, QUESTION, Replica, Service, read, service

SHORT = replace(BRISK, lease=1.0)  # yet a busy machine renews it in time


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.chat.known_answer.FIRST_READER_SECONDS", 60)
    monkeypatch.setattr("app.chat.answer_names.OVER_SECONDS", 0.3)  # a busy machine writes late, too


@pytest.fixture
async def shared(answer_settings: Callable[..., AnswerSettings]) -> AsyncIterator[Service]:
    async with service(answer_settings(max_answers_per_caller=3)) as opened:
        yield opened


async def all_of(asking: list[asyncio.Task[KnownAnswer]]) -> list[KnownAnswer]:
    """The answers. Whoever gets none was told why."""
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(each) for each in outcomes if isinstance(each, BaseException)} <= {TooMany}
    return [each for each in outcomes if isinstance(each, KnownAnswer)]


async def until_let_in(replica: Replica) -> KnownAnswer:
    async with asyncio.timeout(30):
        while True:
            try:
                return await replica.ask()
            except TooMany:
                await asyncio.sleep(0.02)


def admitting(
    replica: Replica, settings: AnswerSettings, admit: Admit | None, shutdown: Shutdown | None = None
) -> Answers:
    of = shutdown or Shutdown(1)
    return Answers(replica.store, replica.provider, Settings(_env_file=None), settings, of, admit)


async def places(shared: Service) -> list[str]:
    (key,) = [key for key in await shared.keys() if ":running:" in key]
    return sorted(map(str, await shared.redis.zrange(key, 0, -1)))


@pytest.mark.parametrize("key", [None, "k"])
async def test_processes_that_are_asked_at_once_never_begin_more(shared: Service, key: str | None) -> None:
    replicas = [await shared.replica(60.0) for _ in range(2)]
    asking = [
        asyncio.create_task(replica.ask(key and f"{key}{number}")) for number in range(10) for replica in replicas
    ]
    begun = [*{answer.id: answer for answer in await all_of(asking)}.values()]
    assert (len(begun), sum(len(replica.provider.asked) for replica in replicas)) == (3, 3)
    assert await places(shared) == sorted(answer.id for answer in begun)
    assert await all_of([asyncio.create_task(replica.ask()) for replica in replicas]) == []
    for replica in replicas:
        await replica.answers.ask(QUESTION, "you")
    await begun[0].stop()
    await until_let_in(replicas[0])
    with pytest.raises(TooMany):
        await replicas[1].ask()


async def test_nobody_has_more_places_by_asking_so_often_that_redis_seems_to_be_away(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await shared.replica(60.0), await shared.replica(60.0)
    for _ in range(3):
        await one.ask()
    began = monotonic()
    await asyncio.gather(*(shared.redis.ping() for _ in range(1500)))
    # On a busy machine too: the last of so many questions at once would wait for longer.
    monkeypatch.setattr("app.chat.answer_names.WAIT_SECONDS", max(0.5, 3 * (monotonic() - began)))
    assert await all_of([asyncio.create_task(other.ask()) for _ in range(1500)]) == []


async def test_who_repeats_a_request_is_not_refused_and_one_that_is_leaves_nothing(shared: Service) -> None:
    one, other = await shared.replica(60.0), await shared.replica()
    begun = [await one.ask(f"k{number}") for number in range(3)]
    for answer in begun:
        await read(await other.get(answer), until="status")  # so that Redis has all that its writer adds
    before = await shared.keys()
    with pytest.raises(TooMany):
        await other.ask("l")
    assert await shared.keys() == before
    assert [(await other.ask(f"k{number}")).id for number in range(3)] == [answer.id for answer in begun]


async def test_the_places_of_a_process_that_has_died_are_free_when_its_leases_are_over(shared: Service) -> None:
    dies, lives = await shared.replica(60.0, times=SHORT), await shared.replica(60.0, times=SHORT)
    for _ in range(3):
        await dies.ask()
    await asyncio.sleep(1.3 * SHORT.lease)  # they are held as long as the process lives
    with pytest.raises(TooMany):
        await lives.ask()
    dies.stand_still()
    await until_let_in(lives)


@pytest.mark.parametrize("key", [None, "k"])
async def test_one_that_would_begin_behind_the_drain_time_gives_back_its_place_and_its_key(
    shared: Service, key: str | None
) -> None:
    stops, lives = await shared.replica(60.0), await shared.replica(60.0)
    shutdown = Shutdown(1)

    async def admit(caller: str) -> None:
        shutdown.expired = True  # meanwhile

    with pytest.raises(Unavailable, match="going down"):
        await admitting(stops, shared.settings, admit, shutdown).ask(QUESTION, "me", key=key)
    begun = [await lives.ask(each) for each in (key, None, None)]
    assert await places(shared) == sorted(answer.id for answer in begun)
    assert (len(stops.provider.asked), len(lives.provider.asked)) == (0, 3)


async def test_whose_answer_has_just_ended_may_begin_the_next_anywhere(
    answer_settings: Callable[..., AnswerSettings],
) -> None:
    async with service(answer_settings(max_answers_per_caller=1)) as shared:
        replicas = [await shared.replica("a") for _ in range(2)]
        for _ in range(2):
            for replica in replicas:
                await read(await replica.ask())


async def test_one_that_has_ended_here_takes_no_place_though_redis_does_not_know_yet(
    answer_settings: Callable[..., AnswerSettings],
) -> None:
    async with service(answer_settings(max_answers_per_caller=1)) as shared:
        replica = await shared.replica("a")
        replica.stand_still()
        for _ in range(3):
            await read(await replica.ask())


async def test_a_redis_that_has_lost_its_data_counts_those_that_run(shared: Service) -> None:
    replica, other = await shared.replica("a", 60.0), await shared.replica(60.0)
    for _ in range(3):
        await read(await replica.ask(), until="a")
    for key in await shared.keys():
        await shared.redis.delete(key)
    async with asyncio.timeout(10):
        while not any(":running:" in key for key in await shared.keys()) or len(await places(shared)) < 3:
            await asyncio.sleep(0.01)
    with pytest.raises(TooMany):
        await other.ask()


async def test_a_clock_that_was_set_back_holds_no_place(shared: Service) -> None:
    """Only those that are renewed since are held."""
    dies, lives = await shared.replica(60.0), await shared.replica(60.0)
    dies.stand_still()
    for _ in range(3):
        await dies.ask()
    (key,) = [key for key in await shared.keys() if ":running:" in key]
    for place in await places(shared):
        await shared.redis.zincrby(key, 3_600_000, place)
    await lives.ask()


async def test_without_redis_each_process_counts_its_own(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.chat.answer_names.WAIT_SECONDS", 0.2)
    replica, other = await shared.replica(60.0), await shared.replica(60.0)
    await replica.ask()
    await shared.redis.config_set("maxmemory", 1)
    try:
        for _ in range(2):  # some of them come at once, and some come later
            begun = await all_of([asyncio.create_task(replica.ask()) for _ in range(5)])
        assert (len(begun), replica.store._here.running_of("me")) == (0, 3)
        await other.ask()
    finally:
        await shared.redis.config_set("maxmemory", 0)
    async with asyncio.timeout(10):
        while len(await places(shared)) < 4:
            await asyncio.sleep(0.01)
    with pytest.raises(TooMany):
        await other.ask()


async def test_without_redis_a_caller_does_not_begin_too_many_while_they_are_admitted(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.chat.answer_names.WAIT_SECONDS", 0.2)
    replica = await shared.replica(60.0)

    async def admit(caller: str) -> None:
        await asyncio.sleep(0.01)

    answers = admitting(replica, shared.settings, admit)
    await shared.redis.client_pause(1000, all=True)
    begun = await all_of([asyncio.create_task(answers.ask(QUESTION, "me")) for _ in range(10)])
    assert (len(begun), answers.running) == (3, 3)


async def test_to_be_admitted_may_take_long(answer_settings: Callable[..., AnswerSettings]) -> None:
    """It takes no turn at Redis, and no time that Redis has."""
    admitted, all_are = 0, asyncio.Event()

    async def admit(caller: str) -> None:
        nonlocal admitted
        admitted += 1
        if admitted > AT_ONCE:
            all_are.set()
        await all_are.wait()

    async with service(answer_settings()) as shared:
        replica = await shared.replica(60.0)
        answers = admitting(replica, shared.settings, admit)
        asking = [asyncio.create_task(answers.ask(QUESTION, "me")) for _ in range(AT_ONCE + 1)]
        assert len(await all_of(asking)) == admitted == AT_ONCE + 1


async def test_every_key_expires_and_none_has_a_callers_name(shared: Service) -> None:
    replica = await shared.replica("a", 60.0)
    replica.stand_still()
    await replica.answers.ask(QUESTION, "somebody", key="k")
    for written in (False, True):
        if written:
            replica.go_on()
            async with asyncio.timeout(10):
                while not any(key.endswith(":events") for key in await shared.keys()):
                    await asyncio.sleep(0.01)
        ttls = {key: await shared.redis.pttl(key) for key in await shared.keys()}
        assert [key for key, ttl in ttls.items() if ttl < 0 or "somebody" in key] == []
        assert any(":running:" in key for key in ttls)


async def trips(shared: Service, most: int, admit: Admit | None, key: str | None) -> int:
    """How often Redis is asked before an answer begins."""
    settings = shared.settings.model_copy(update={"max_answers_per_caller": most})
    async with service(settings) as other:
        replica = await other.replica(60.0)
        replica.stand_still()  # what is written of it does not count
        answers = admitting(replica, settings, admit)

        async def asked() -> int:
            stats = await shared.redis.info("commandstats")
            return int(stats["cmdstat_evalsha"]["calls"])

        await answers.ask(QUESTION, "me", key=key and f"{key}0")  # it is connected, and Redis has the scripts
        before = await asked()
        with suppress(TooMany):
            await answers.ask(QUESTION, "me", key=key and f"{key}1")
        return await asked() - before


async def admit_all(caller: str) -> None:
    """What counts in Redis asks it once."""


@pytest.mark.parametrize("key", [None, "k"])
async def test_what_it_costs_to_ask(shared: Service, key: str | None) -> None:
    """Places cost nothing: they are counted as the answer is reserved. Where it is to be admitted, one look before."""
    assert await trips(shared, 0, None, key) == 1
    assert await trips(shared, 5, None, key and "l") == 1
    assert await trips(shared, 5, admit_all, key and "m") == 2
    assert await trips(shared, 1, None, key and "n") == (1 if key else 0)  # it might have found its answer


async def test_few_of_a_caller_ask_at_once_and_another_need_not_wait_for_them() -> None:
    turns, ends, asking = Turns(), asyncio.Event(), 0

    async def ask() -> None:
        nonlocal asking
        async with turns.of("me", 600):
            asking += 1
            await ends.wait()
            asking -= 1

    tasks = [asyncio.create_task(ask()) for _ in range(50)]
    async with turns.of("you", 600):
        await asyncio.sleep(0)
        assert asking == AT_ONCE
    ends.set()
    await asyncio.gather(*tasks)


async def test_who_waited_for_a_turn_while_redis_did_not_answer_waits_no_longer() -> None:
    turns, asked = Turns(), 0

    async def ask_what_stands_still() -> None:
        nonlocal asked
        async with turns.of("me", 0.05):
            asked += 1
            await asyncio.Event().wait()

    outcomes = await asyncio.gather(*(ask_what_stands_still() for _ in range(50)), return_exceptions=True)
    assert ({type(each) for each in outcomes}, asked) == ({StoreAway}, AT_ONCE)
    with pytest.raises(StoreAway):
        await ask_what_stands_still()
    assert asked == AT_ONCE + 1  # who has come since asks anew

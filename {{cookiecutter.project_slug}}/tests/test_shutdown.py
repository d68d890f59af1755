import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from app.shutdown import SIGNALS, Shutdown
from tests.server import ROOT

LEAVES_BEHIND = """
import asyncio, contextlib
from app import shutdown
from app.streams import log, source

shutdown.CLEANUP_SECONDS = source.CLEANUP_SECONDS = 0.02

async def swallows():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

async def events():
    await swallows()
    yield

async def main():
    run = source.Run(events(), log.MemoryLog())
    await asyncio.sleep(0.01)
    await run.close()
    print("left behind")
    (going := shutdown.Shutdown(0)).begin()
    await going.limit(swallows(), "work")
    print("left behind")

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.shutdown.GRACE_SECONDS", 0.02)


async def test_what_runs_at_the_limit_is_ended_and_what_ended_before_is_not() -> None:
    shutdown, ended = Shutdown(0), asyncio.Event()
    with shutdown.at_limit(lambda: pytest.fail("this block is left")):
        pass
    with shutdown.at_limit(ended.set):
        shutdown.begin()
        await asyncio.wait_for(ended.wait(), 10)
    assert shutdown.expired


async def test_what_begins_after_the_limit_is_ended_soon() -> None:
    shutdown, first, second = Shutdown(0), asyncio.Event(), asyncio.Event()
    with shutdown.at_limit(first.set):
        shutdown.begin()
        await asyncio.wait_for(first.wait(), 10)
    with shutdown.at_limit(second.set):
        await asyncio.wait_for(second.wait(), 10)


async def test_a_signal_begins_the_drain_and_goes_on_to_the_handler_before() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        shutdown = Shutdown(60)
        with shutdown.on_signals():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)  # the handler has told the loop by now
            assert shutdown.draining
        assert not shutdown.expired
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM, signal.SIGTERM]


async def test_a_second_sigint_ends_the_drain_time() -> None:
    before = signal.signal(signal.SIGINT, lambda *_: None)
    shutdown, ended = Shutdown(60), asyncio.Event()
    try:
        with shutdown.on_signals(), shutdown.at_limit(ended.set):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            assert (shutdown.draining, shutdown.expired) == (True, False)
            signal.raise_signal(signal.SIGINT)
            await asyncio.wait_for(ended.wait(), 10)
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    inside: list[object] = []

    async def run() -> None:
        with Shutdown(0).on_signals():
            inside.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
    assert inside == before


async def test_work_is_limited_to_the_drain_time_and_says_when_it_was_cut(caplog: pytest.LogCaptureFixture) -> None:
    shutdown = Shutdown(0)
    assert await shutdown.limit(asyncio.sleep(0), "short work")
    shutdown.begin()
    assert not await asyncio.wait_for(shutdown.limit(asyncio.sleep(60), "long work"), 10)
    assert "long work cancelled" in caplog.text
    assert "short work" not in caplog.text


async def test_work_that_does_not_end_when_it_is_cancelled_is_left_behind(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.shutdown.CLEANUP_SECONDS", 0.02)
    shutdown = Shutdown(0)

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)

    shutdown.begin()
    assert not await asyncio.wait_for(shutdown.limit(hangs(), "work that hangs"), 10)
    assert "work that hangs has not ended in 0.02 s: it is left behind" in caplog.text


def test_a_process_does_not_wait_for_what_is_left_behind() -> None:
    """As it ends, `asyncio.run` waits for each task."""
    ended = subprocess.run([sys.executable, "-c", LEAVES_BEHIND], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "left behind\nleft behind\n", ended.stderr


async def test_what_work_raises_when_it_is_cancelled_is_raised() -> None:
    shutdown = Shutdown(0)

    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("its cleanup")

    shutdown.begin()
    with pytest.raises(OSError, match="its cleanup"):
        await asyncio.wait_for(shutdown.limit(fails(), "work that fails"), 10)

"""Answers in the memory of this process."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from app.chat import answer_store
from app.errors import NotFound, Unavailable
from app.settings import Settings
from tests.chat.asking import QUESTION, SOON, WAIT_SECONDS, Open, ask, ended
from tests.providers import ScriptedProvider


async def test_it_is_known_to_its_caller_alone_and_for_some_time(answers_of: Open) -> None:
    answers = await answers_of("a", answer_retention_seconds=1)
    answer = await ask(answers, QUESTION, "me", key="k")
    with pytest.raises(NotFound):
        await answers.get(answer.id, "you")
    await ended(answer)
    await asyncio.sleep(0)
    assert (await answers.get(answer.id, "me")).id == answer.id
    with pytest.raises(NotFound):
        async with asyncio.timeout(WAIT_SECONDS):
            while await answers.get(answer.id, "me"):
                await asyncio.sleep(SOON)
    assert (await answers.ask(QUESTION, "me", key="k")).id != answer.id


async def test_of_those_that_have_ended_the_oldest_make_way(answers_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = await answers_of("x" * 1000)
    old, young = await ask(answers, QUESTION, "me"), await ask(answers, QUESTION, "me")
    for answer in (old, young):
        await ended(answer)
    await asyncio.sleep(0)
    monkeypatch.setattr(answer_store, "MAX_BYTES", young.bytes + 1)
    running = await ask(answers, QUESTION, "me")
    assert (await answers.get(young.id, "me")).id == young.id
    with pytest.raises(NotFound):
        await answers.get(old.id, "me")
    assert (await answers.get(running.id, "me")).id == running.id


async def test_nothing_holds_what_is_forgotten_for_want_of_space(
    answers_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "MAX_BYTES", 1)
    answer = await ask(await answers_of("a"), QUESTION, "me", key="k")
    await ended(answer)
    await asyncio.sleep(SOON)
    kept = weakref.ref(answer)
    del answer
    gc.collect()
    assert kept() is None


async def test_no_timer_is_left_of_what_is_forgotten_for_want_of_space(
    answers_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a KiB until the time of its answer is over."""
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(call_later(delay, callback, *args, **options))
        return timers[-1]

    answers = await answers_of("a", answer_retention_seconds=77)
    monkeypatch.setattr(answer_store, "MAX_BYTES", 1)
    monkeypatch.setattr(loop, "call_later", noted)
    await ended(await ask(answers, QUESTION, "me"))
    await asyncio.sleep(SOON)
    lasting = [timer for timer in timers if 60 < timer.when() - loop.time() < 78]
    assert [timer.cancelled() for timer in lasting] == [True]


async def test_those_that_run_do_not(answers_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = await answers_of("x" * 1000, 60.0)
    answer = await ask(answers, QUESTION, "me")
    assert await answer.log.after(1, WAIT_SECONDS)
    monkeypatch.setattr(answer_store, "MAX_BYTES", answer.bytes)
    with pytest.raises(Unavailable):
        await answers.ask(QUESTION, "me")
    assert answer.running


@pytest.mark.parametrize("workers", [1, 2])
async def test_several_processes_are_warned_of(
    settings: Settings, build: Callable[..., FastAPI], workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each worker of uvicorn has its configuration, and takes this from there."""
    config = uvicorn.Config(build(settings, ScriptedProvider()), workers=workers, log_config=None)
    config.load()
    lifespan = config.lifespan_class(config)
    await lifespan.startup()
    await lifespan.shutdown()
    warned = "2 processes serve, and each keeps its answers in its own memory" in caplog.text
    assert warned == (workers == 2)

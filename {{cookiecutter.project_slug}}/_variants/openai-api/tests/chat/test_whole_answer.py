import asyncio

import pytest
from starlette.types import Message

from app.chat.generation import Generation
from app.chat.whole_answer import ClientLeft, whole_answer
from app.shutdown import Shutdown
from app.streams.events import StreamFault
from tests.providers import ScriptedProvider


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> Message:
    return {"type": "http.disconnect"}


def generation_of(provider: ScriptedProvider) -> Generation:
    return Generation(provider, [], seconds=5, max_chars=1000)


async def at_work(provider: ScriptedProvider) -> None:
    while not provider.yielded:
        await asyncio.sleep(0)


async def test_the_pieces_are_one_text() -> None:
    provider = ScriptedProvider("a", " b", "")
    assert await whole_answer(generation_of(provider), stays, Shutdown(1)) == "a b"
    assert provider.closed.is_set()


async def test_a_model_that_fails_raises() -> None:
    with pytest.raises(StreamFault, match="model_error"):
        await whole_answer(generation_of(ScriptedProvider("a", RuntimeError("on purpose"))), stays, Shutdown(1))


async def test_the_model_is_closed_when_the_client_leaves() -> None:
    provider = ScriptedProvider("a", 60.0)

    async def leaves_later() -> Message:
        await at_work(provider)
        return await leaves()

    generation = generation_of(provider)
    with pytest.raises(ClientLeft):
        await whole_answer(generation, leaves_later, Shutdown(1))
    assert provider.closed.is_set()
    assert generation.reason == "cancelled"


async def test_the_model_is_closed_when_the_drain_time_is_over() -> None:
    provider, shutdown = ScriptedProvider("a", 60.0), Shutdown(0)
    waiting = asyncio.create_task(whole_answer(generation_of(provider), stays, shutdown))
    await at_work(provider)
    shutdown.begin()
    with pytest.raises(StreamFault, match="server_shutdown"):
        await waiting
    assert provider.closed.is_set()


async def test_the_model_is_closed_when_the_handler_is_cancelled() -> None:
    provider = ScriptedProvider("a", 60.0)
    waiting = asyncio.create_task(whole_answer(generation_of(provider), stays, Shutdown(1)))
    await at_work(provider)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert provider.closed.is_set()


async def test_a_model_that_never_waits_is_closed_too() -> None:
    provider = ScriptedProvider(*["a"] * 1000)
    with pytest.raises(ClientLeft):
        await whole_answer(generation_of(provider), leaves, Shutdown(1))
    assert provider.yielded < 10

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence

import pytest
from starlette.types import Message

from app.chat.answer import Answer
from app.chat.generation import Generation
from app.chat.known_answer import Asked
from app.chat.providers.base import Asker, Finish
from app.chat.providers.base import Message as ChatMessage
from app.chat.whole_answer import ClientLeft, whole_answer
from app.shutdown import Shutdown
from app.streams.events import Done, Event, Reasoning, Status, StreamFault, Token
from tests.providers import ScriptedProvider


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def leaves() -> Message:
    return {"type": "http.disconnect"}


def answer_of(provider: ScriptedProvider) -> Answer:
    generation = Generation(provider, [], caller="anonymous", seconds=5, max_chars=1000)
    return Answer(generation, Asked(generation.id, "caller", ""), grace=0, longest=60)


async def at_work(provider: ScriptedProvider) -> None:
    while not provider.yielded:
        await asyncio.sleep(0)


async def test_it_waits_for_all_events() -> None:
    provider = ScriptedProvider(Reasoning("hm"), "a", " b", "")
    answer = answer_of(provider)
    events = await whole_answer(answer, stays, Shutdown(1))
    assert events == [Status("thinking", answer.id), Reasoning("hm"), Token("a"), Token(" b"), Done()]
    assert provider.closed.is_set()


async def test_a_model_that_fails_raises() -> None:
    with pytest.raises(StreamFault, match="model_error"):
        await whole_answer(answer_of(ScriptedProvider("a", RuntimeError("on purpose"))), stays, Shutdown(1))


async def test_a_model_that_cancels_itself_has_failed() -> None:
    with pytest.raises(StreamFault, match="model_error"):
        await whole_answer(answer_of(ScriptedProvider("a", asyncio.CancelledError())), stays, Shutdown(1))


async def test_the_model_is_closed_when_the_client_leaves() -> None:
    provider = ScriptedProvider("a", 60.0)

    async def leaves_later() -> Message:
        await at_work(provider)
        return await leaves()

    answer = answer_of(provider)
    with pytest.raises(ClientLeft):
        await whole_answer(answer, leaves_later, Shutdown(1))
    await answer.run.closed
    assert provider.closed.is_set()
    assert answer.reason == "cancelled"


async def test_an_answer_that_somebody_stops_is_not_taken_for_a_whole_one() -> None:
    provider = ScriptedProvider("a", 60.0)
    answer = answer_of(provider)
    waiting = asyncio.create_task(whole_answer(answer, stays, Shutdown(1)))
    await at_work(provider)
    await answer.stop()
    with pytest.raises(StreamFault, match="cancelled"):
        await waiting


async def test_an_answer_that_is_lost_raises() -> None:
    provider = ScriptedProvider("a", 60.0)
    answer = answer_of(provider)
    waiting = asyncio.create_task(whole_answer(answer, stays, Shutdown(1)))
    await at_work(provider)
    answer.lose()
    with pytest.raises(StreamFault, match="producer_lost"):
        await waiting


async def test_the_model_is_closed_when_the_drain_time_is_over() -> None:
    provider, shutdown = ScriptedProvider("a", 60.0), Shutdown(0)
    answer = answer_of(provider)
    waiting = asyncio.create_task(whole_answer(answer, stays, shutdown))
    await at_work(provider)
    shutdown.begin()
    with pytest.raises(StreamFault, match="server_shutdown"):
        await waiting
    await answer.run.closed
    assert provider.closed.is_set()


async def test_the_model_is_closed_when_the_handler_is_cancelled() -> None:
    provider = ScriptedProvider("a", 60.0)
    answer = answer_of(provider)
    waiting = asyncio.create_task(whole_answer(answer, stays, Shutdown(1)))
    await at_work(provider)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await answer.run.closed
    assert provider.closed.is_set()


async def test_a_model_that_never_waits_is_closed_too() -> None:
    provider = ScriptedProvider(*["a"] * 1000)
    answer = answer_of(provider)
    with pytest.raises(ClientLeft):
        await whole_answer(answer, leaves, Shutdown(1))
    await answer.run.closed
    assert provider.yielded < 100


class Untidy(ScriptedProvider):
    """Says a word and waits; its cleanup then waits for an event, or raises an exception."""

    def __init__(self, at_the_end: asyncio.Event | Exception) -> None:
        super().__init__("a", 60.0)
        self.at_the_end = at_the_end

    async def stream(self, messages: Sequence[ChatMessage], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        try:
            async for piece in super().stream(messages, asker):
                yield piece
        finally:
            if isinstance(self.at_the_end, Exception):
                raise self.at_the_end
            await self.at_the_end.wait()


async def test_a_model_whose_cleanup_hangs_is_left_behind_with_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", 0.05)
    closed = asyncio.Event()
    provider, shutdown = Untidy(closed), Shutdown(0)
    answer = answer_of(provider)
    waiting = asyncio.create_task(whole_answer(answer, stays, shutdown))
    await at_work(provider)
    shutdown.begin()
    with pytest.raises(StreamFault, match="server_shutdown"):
        await waiting
    await answer.run.closed
    assert "has not closed in 0.05 s" in caplog.text
    closed.set()


async def test_what_a_cleanup_raises_when_the_client_has_left_is_no_complaint_of_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Untidy(RuntimeError("on purpose"))

    async def leaves_later() -> Message:
        await at_work(provider)
        return await leaves()

    answer = answer_of(provider)
    with pytest.raises(ClientLeft):
        await whole_answer(answer, leaves_later, Shutdown(1))
    await answer.run.closed
    del answer
    gc.collect()
    assert "never retrieved" not in caplog.text

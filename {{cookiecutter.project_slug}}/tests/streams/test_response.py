import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.types import Message, Receive, Scope, Send

from app.streams.events import Done, Error, Event, KeepAlive, StreamFault, Token
from app.streams.response import EventStream
from tests.asgi import exchange, state
from tests.sse import Received, names, parse

SOON = 0.02


class Source:
    """Tokens that a test puts in, one by one."""

    def __init__(self) -> None:
        self.tokens: asyncio.Queue[str] = asyncio.Queue()
        self.cleaned_up = asyncio.Event()

    async def __call__(self) -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Token(await self.tokens.get())
        finally:
            await asyncio.sleep(0.01)
            self.cleaned_up.set()


async def made_of(*events: Event | Exception) -> AsyncGenerator[Event, None]:
    for event in events:
        if isinstance(event, Exception):
            raise event
        yield event


async def test_each_token_can_be_read_before_the_next_exists() -> None:
    source = Source()
    async with exchange(EventStream(source()), **state()) as stream:
        for number, word in enumerate(("a", "b"), 1):
            source.tokens.put_nowait(word)
            assert parse(await stream.text()) == [Received("token", {"text": word}, str(number))]


async def test_the_headers_are_those_of_an_event_stream() -> None:
    async with exchange(EventStream(made_of(), headers={"X-Stream-ID": "s"}), **state()):
        pass
    headers = dict(EventStream(made_of(), headers={"X-Stream-ID": "s"}).headers)
    assert headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "x-stream-id": "s",
    }


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), ["done"]),
        ((Token("a"),), ["token", "done"]),
        ((Token("a"), Done("length")), ["token", "done"]),
        ((Token("a"), Done(), Token("too late")), ["token", "done"]),
        ((Token("a"), Token("b"), RuntimeError()), ["token", "token", "error", "done"]),
        ((StreamFault(Error("model_error", "no", True, "-")),), ["error", "done"]),
    ],
)
async def test_there_is_exactly_one_done_and_it_is_last(events: tuple[Any, ...], expected: list[str]) -> None:
    async with exchange(EventStream(made_of(*events)), **state()) as stream:
        text = await stream.rest()
    assert names(text) == expected
    assert [event.id for event in parse(text)] == [str(number) for number in range(1, len(expected) + 1)]


async def test_ids_continue_where_the_source_does() -> None:
    async with exchange(EventStream(made_of(Token("x")), first_id=5), **state()) as stream:
        assert [event.id for event in parse(await stream.rest())] == ["5", "6"]


async def test_an_unexpected_error_is_logged_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    async with exchange(EventStream(made_of(RuntimeError("the secret"))), **state()) as stream:
        text = await stream.rest()
    error, done = parse(text)
    assert error.data["code"] == "internal_error"
    assert done.data == {"reason": "error"}
    assert "the secret" not in text
    assert "the secret" in caplog.text


async def test_a_source_that_says_done_itself_finishes_its_own_cleanup() -> None:
    saved = asyncio.Event()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            yield Done("length")
        finally:
            await asyncio.sleep(0.01)
            saved.set()

    async with exchange(EventStream(source()), **state()) as stream:
        assert names(await stream.rest()) == ["token", "done"]
    assert saved.is_set()


async def test_what_was_made_before_an_event_that_can_not_be_encoded_arrives() -> None:
    nan = Token(float("nan"))  # type: ignore[arg-type]
    async with exchange(EventStream(made_of(Token("a"), Token("b"), Token("c"), nan)), **state()) as stream:
        events = parse(await stream.rest())
    assert [event.name for event in events] == ["token", "token", "token", "error", "done"]
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]


async def test_a_stream_asked_for_after_the_drain_time_is_refused() -> None:
    shared = state(drain=0)
    shared["shutdown"].begin()
    await asyncio.sleep(0.01)
    async with exchange(EventStream(Source()()), **shared) as stream:
        assert stream.status == 503


async def test_nothing_follows_a_done_when_the_drain_time_ends_during_the_sources_cleanup() -> None:
    shared = state(drain=SOON)

    async def source() -> AsyncGenerator[Event, None]:
        yield Done()
        await asyncio.sleep(5)

    async with exchange(EventStream(source()), **shared) as stream:
        shared["shutdown"].begin()
        assert names(await stream.rest()) == ["done"]


async def test_silence_is_filled_with_keep_alives() -> None:
    async with exchange(EventStream(Source()()), **state(heartbeat=SOON)) as stream:
        assert await stream.text() == ": keep-alive\n\n"
        assert await stream.text() == ": keep-alive\n\n"


async def test_a_client_that_leaves_closes_the_source_and_its_cleanup_is_awaited() -> None:
    source = Source()
    async with exchange(EventStream(source()), **state()) as stream:
        stream.gone.set()
        await stream.until_ended()
        assert source.cleaned_up.is_set()
        assert await stream.rest() == ""


async def test_a_client_that_leaves_while_it_takes_nothing_closes_the_source_too() -> None:
    source = Source()
    async with exchange(EventStream(source()), **state()) as stream:
        stream.taking.clear()
        source.tokens.put_nowait("never taken")
        await asyncio.sleep(0)
        stream.gone.set()
        await stream.until_ended()
        assert source.cleaned_up.is_set()


async def test_a_client_that_takes_nothing_is_cut_off_without_a_proper_end(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    async with exchange(EventStream(source()), **state(send_timeout=SOON)) as stream:
        stream.taking.clear()
        source.tokens.put_nowait("never taken")
        await stream.until_ended()
        assert source.cleaned_up.is_set()
        assert await stream.rest() == ""
    assert "the client has taken nothing" in caplog.text


async def test_a_server_that_says_so_when_the_client_has_left_closes_the_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, sent = Source(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def failing(message: Message) -> None:
            if sent.is_set():
                raise BrokenPipeError
            await send(message)
            sent.set()

        await EventStream(source())(scope, receive, failing)

    async with exchange(app, **state()) as stream:
        source.tokens.put_nowait("a")
        await stream.until_ended()
        assert source.cleaned_up.is_set()
    assert "the client has left" in caplog.text


async def test_when_the_drain_time_is_over_the_client_is_told_without_an_id() -> None:
    source, shared = Source(), state(drain=SOON)
    async with exchange(EventStream(source()), **shared) as stream:
        source.tokens.put_nowait("a")
        await stream.text()
        shared["shutdown"].begin()
        error, done = parse(await stream.rest())
    assert (error.data["code"], error.data["retryable"], error.id) == ("server_shutdown", True, None)
    assert done == Received("done", {"reason": "shutdown"}, None)
    assert source.cleaned_up.is_set()


async def test_a_stream_that_ends_within_the_drain_time_ends_as_usual() -> None:
    source, shared = Source(), state(drain=5)
    finishing = made_of(Token("a"))
    async with exchange(EventStream(finishing), **shared) as stream:
        shared["shutdown"].begin()
        assert parse(await stream.rest())[-1] == Received("done", {"reason": "end"}, "2")
    assert not source.cleaned_up.is_set()


async def test_cancelled_from_outside_it_closes_the_source_before_it_ends() -> None:
    source = Source()
    async with exchange(EventStream(source()), **state()) as stream:
        stream.call.cancel()
        await stream.until_ended()
        assert source.cleaned_up.is_set()


async def test_under_a_cancel_scope_the_sources_cleanup_runs_to_its_end() -> None:
    """A cancel scope cancels each `await` again, which is how a server or a middleware may end a request."""
    source, ended_by = Source(), anyio.CancelScope()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with ended_by:
            await EventStream(source())(scope, receive, send)

    async with exchange(app, **state()) as stream:
        ended_by.cancel()
        await stream.until_ended()
        assert source.cleaned_up.is_set()


@pytest.mark.parametrize("leaves", [True, False])
async def test_background_tasks_run_after_every_ending(leaves: bool) -> None:
    ran = asyncio.Event()

    async def task() -> None:
        ran.set()

    response = EventStream(Source()() if leaves else made_of(Token("a")))
    response.background = BackgroundTask(task)
    async with exchange(response, **state()) as stream:
        if leaves:
            stream.gone.set()
        await stream.until_ended()
    assert ran.is_set()


async def test_another_encoder_gives_another_dialect() -> None:
    def encode(event: Event, id: int | None) -> bytes:  # noqa: A002
        if isinstance(event, KeepAlive):
            return b":\n\n"
        return b"data: [DONE]\n\n" if isinstance(event, Done) else f"data: {event}\n\n".encode()

    async with exchange(EventStream(made_of(Token("a")), encode), **state()) as stream:
        assert await stream.rest() == "data: Token(text='a')\n\ndata: [DONE]\n\n"


async def test_a_dying_stream_says_so_in_the_log_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with exchange(EventStream(made_of(KeyError("x"))), **state()) as stream:
        await stream.rest()
    assert [record.message for record in caplog.records] == ["stream failed"]

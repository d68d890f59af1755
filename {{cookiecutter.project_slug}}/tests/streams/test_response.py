import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from time import monotonic
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.shutdown import Shutdown
from app.streams.events import Done, Error, Event, KeepAlive, StreamFault, Token, encode
from app.streams.log import MemoryLog
from app.streams.response import EventStream
from app.streams.source import Run
from tests.asgi import exchange, state
from tests.sse import Received, parse
from tests.streams.dialects import DIALECTS, Dialect, Number

SOON = 0.02
TRIES = 3


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


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


async def made_of(*events: Event | BaseException) -> AsyncGenerator[Event, None]:
    for event in events:
        if isinstance(event, BaseException):
            raise event
        yield event


async def never_waits() -> AsyncGenerator[Event, None]:
    while True:
        yield Token("a")


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
async def test_there_is_exactly_one_done_and_it_is_last(
    events: tuple[Any, ...], expected: list[str], dialect: Dialect
) -> None:
    async with exchange(EventStream(made_of(*events), dialect.encode), **state()) as stream:
        text = await stream.rest()
    assert dialect.names(text) == expected
    if dialect is DIALECTS["ours"]:
        assert [event.id for event in parse(text)] == [str(number) for number in range(1, len(expected) + 1)]


async def test_a_log_is_read_from_behind_any_place() -> None:
    log = MemoryLog()
    log.append(Token("a"), Token("b"), Done())
    async with exchange(EventStream(log, after=1), **state()) as stream:
        events = parse(await stream.rest())
    assert events == [Received("token", {"text": "b"}, "2"), Received("done", {"reason": "end"}, "3")]


async def test_an_unexpected_error_is_logged_and_its_text_stays_here(
    caplog: pytest.LogCaptureFixture, dialect: Dialect
) -> None:
    async with exchange(EventStream(made_of(RuntimeError("the secret")), dialect.encode), **state()) as stream:
        text = await stream.rest()
    assert dialect.names(text) == ["error", "done"]
    assert '"internal_error"' in text
    assert "the secret" not in text
    assert "the secret" in caplog.text


async def test_a_source_that_says_done_itself_finishes_its_own_cleanup(dialect: Dialect) -> None:
    saved = asyncio.Event()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            yield Done("length")
        finally:
            await asyncio.sleep(0.01)
            saved.set()

    async with exchange(EventStream(source(), dialect.encode), **state()) as stream:
        assert dialect.names(await stream.rest()) == ["token", "done"]
    assert saved.is_set()


async def test_what_was_made_before_an_event_that_can_not_be_encoded_arrives(dialect: Dialect) -> None:
    source = made_of(Token("a"), Token("b"), Token("c"), Number(float("nan")))
    async with exchange(EventStream(source, dialect.encode), **state()) as stream:
        text = await stream.rest()
    assert dialect.names(text) == ["token", "token", "token", "error", "done"]
    if dialect is DIALECTS["ours"]:
        assert [event.id for event in parse(text)] == ["1", "2", "3", None, None]


async def test_a_stream_asked_for_after_the_drain_time_is_refused() -> None:
    shared = state(drain=0)
    shared["shutdown"].begin()
    await asyncio.sleep(0.01)
    async with exchange(EventStream(Source()()), **shared) as stream:
        assert stream.status == 503


async def test_nothing_follows_a_done_when_the_drain_time_ends_during_the_sources_cleanup(dialect: Dialect) -> None:
    shared = state(drain=SOON)

    async def source() -> AsyncGenerator[Event, None]:
        yield Done()
        await asyncio.sleep(5)

    async with exchange(EventStream(source(), dialect.encode), **shared) as stream:
        shared["shutdown"].begin()
        assert dialect.names(await stream.rest()) == ["done"]


async def test_silence_is_filled_with_keep_alives(dialect: Dialect) -> None:
    async with exchange(EventStream(Source()(), dialect.encode), **state(heartbeat=SOON)) as stream:
        beat = dialect.encode(KeepAlive(), None).decode()
        assert [await stream.text(), await stream.text()] == [beat, beat]


async def test_a_keep_alive_comes_an_interval_after_the_last_data_and_not_before() -> None:
    """However the machine delays either: each piece is timed as it goes out, and none holds both."""
    sent: list[tuple[float, bytes]] = []

    async def source() -> AsyncGenerator[Event, None]:
        for number in range(30):
            await asyncio.sleep(SOON / 3 if number % 10 else 3 * SOON)
            yield Token(str(number))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def timed(message: Message) -> None:
            sent.append((monotonic(), message.get("body", b"")))
            await send(message)

        await EventStream(source())(scope, receive, timed)

    async with exchange(app, **state(heartbeat=SOON)) as stream:
        await stream.rest()
    beats = [number for number, (_, body) in enumerate(sent) if b"keep-alive" in body]
    assert len(beats) >= 3
    for number in beats:
        assert sent[number][1] == b": keep-alive\n\n"
        assert sent[number][0] - sent[number - 1][0] >= SOON


async def test_no_keep_alive_is_queued_behind_a_piece_that_is_not_taken() -> None:
    source, waiting = Source(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            waiting.append(message)
            assert len(waiting) == 1
            await send(message)
            waiting.clear()

        await EventStream(source())(scope, receive, counted)

    async with exchange(app, **state(heartbeat=SOON)) as stream:
        stream.taking.clear()
        source.tokens.put_nowait("slow")
        await asyncio.sleep(5 * SOON)
        stream.taking.set()
        assert "slow" in await stream.text()


async def test_an_event_waits_for_a_keep_alive_that_is_on_its_way() -> None:
    source = Source()
    async with exchange(EventStream(source()), **state(heartbeat=SOON)) as stream:
        stream.taking.clear()
        await asyncio.sleep(2 * SOON)
        source.tokens.put_nowait("a")
        await asyncio.sleep(SOON)
        stream.taking.set()
        assert await stream.text() == ": keep-alive\n\n"
        assert parse(await stream.text()) == [Received("token", {"text": "a"}, "1")]


@pytest.mark.parametrize("takes", [True, False])
async def test_a_client_that_leaves_closes_the_source_within_100_ms(takes: bool) -> None:
    """Whether the stream waits for the model or for the client; the source's own cleanup is awaited."""

    async def seconds() -> float:
        source = Source()
        async with exchange(EventStream(source()), **state()) as stream:
            if not takes:
                stream.taking.clear()
                source.tokens.put_nowait("never taken")
            await asyncio.sleep(0.01)
            began = monotonic()
            stream.gone.set()
            await stream.until_ended()
            assert source.cleaned_up.is_set()
            assert await stream.rest() == ""
            assert not stream.aborted
            return monotonic() - began

    assert min([await seconds() for _ in range(TRIES)]) < 0.1  # the quickest, for a machine may be busy


@pytest.mark.parametrize("sends", ["a token", "a keep-alive"])
async def test_a_client_that_takes_nothing_is_cut_off(
    sends: str, caplog: pytest.LogCaptureFixture, dialect: Dialect
) -> None:
    """Without a proper end, and with the connection: a reader must not take the part for the whole."""
    source = Source()
    limits = state(send_timeout=SOON, heartbeat=SOON if sends == "a keep-alive" else 5)
    async with exchange(EventStream(source(), dialect.encode), **limits) as stream:
        stream.taking.clear()
        if sends == "a token":
            source.tokens.put_nowait("never taken")
        await stream.until_ended()
        assert source.cleaned_up.is_set()
        assert stream.aborted
        assert await stream.rest() == ""
    assert "the client has taken nothing" in caplog.text


async def test_a_client_that_does_not_take_the_end_is_cut_off_too() -> None:
    over = asyncio.Event()

    async def source() -> AsyncGenerator[Event, None]:
        await over.wait()
        return
        yield

    async with exchange(EventStream(source()), **state(send_timeout=SOON)) as stream:
        stream.taking.clear()
        over.set()
        await stream.until_ended()
        assert stream.aborted


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("a middleware's")])
async def test_when_sending_fails_the_source_is_closed(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    source, sent = Source(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def failing(message: Message) -> None:
            if sent.is_set():
                raise error
            await send(message)
            sent.set()

        await EventStream(source())(scope, receive, failing)

    async with exchange(app, **state()) as stream:
        source.tokens.put_nowait("a")
        await stream.until_ended()
        assert source.cleaned_up.is_set()
    assert ("stream failed" in caplog.text) is isinstance(error, RuntimeError)


async def test_when_the_drain_time_is_over_every_dialect_is_told(dialect: Dialect) -> None:
    source, shared = Source(), state(drain=SOON)
    async with exchange(EventStream(source(), dialect.encode), **shared) as stream:
        source.tokens.put_nowait("a")
        shared["shutdown"].begin()
        assert dialect.names(await stream.rest()) == ["token", "error", "done"]
        assert not stream.aborted


async def test_at_the_drain_limit_a_slow_client_gets_its_piece_and_the_last_words() -> None:
    source, shared = Source(), state(drain=SOON)
    async with exchange(EventStream(source()), **shared) as stream:
        stream.taking.clear()
        source.tokens.put_nowait("slow")
        shared["shutdown"].begin()
        while not shared["shutdown"].expired:
            await asyncio.sleep(0.001)
        stream.taking.set()
        assert [event.name for event in parse(await stream.rest())] == ["token", "error", "done"]
        assert source.cleaned_up.is_set()


@pytest.mark.parametrize("token", [True, False])
async def test_at_the_drain_limit_a_client_that_takes_nothing_is_cut_off(
    token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.streams.response.FAREWELL_SECONDS", SOON)
    source, shared = Source(), state(drain=SOON)
    async with exchange(EventStream(source()), **shared) as stream:
        stream.taking.clear()
        if token:
            source.tokens.put_nowait("never taken")
        shared["shutdown"].begin()
        await stream.until_ended()
        assert stream.aborted
        assert source.cleaned_up.is_set()


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


async def test_a_stream_that_lasts_too_long_ends_in_the_same_last_words(dialect: Dialect) -> None:
    """Whether its source waits or not: what never waits can't be cancelled."""
    for source in (Source()(), never_waits()):
        async with exchange(EventStream(source, dialect.encode), **state(longest=SOON)) as stream:
            assert dialect.names(await stream.rest())[-2:] == ["error", "done"]
            assert not stream.aborted
        with pytest.raises(StopAsyncIteration):
            await anext(source)


@pytest.mark.parametrize("limit", ["drain", "longest"])
async def test_a_reader_who_is_behind_all_the_while_is_told_too(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit a piece is on its way to it, and so it would be whenever the connection is cut."""
    monkeypatch.setattr("app.streams.response.FAREWELL_SECONDS", 5.0)  # a busy machine may stand still for a while
    shared = state(**{limit: SOON})
    async with exchange(EventStream(never_waits()), **shared) as stream:
        if limit == "drain":
            shared["shutdown"].begin()
        while not stream.ended.is_set():
            stream.taking.clear()
            await asyncio.sleep(0.005)
            stream.taking.set()
            await asyncio.sleep(0)
        assert [event.name for event in parse(await stream.rest())][-2:] == ["error", "done"]
        assert not stream.aborted


async def test_what_comes_at_the_moment_of_the_limit_is_left_for_who_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not begun, for its reader may be slow: one that is cancelled in the middle of it can't be told any more."""
    limits, at_limit = list[Callable[[], object]](), Shutdown.at_limit

    def noted(shutdown: Shutdown, end: Callable[[], object], longest: float | None = None) -> Any:
        limits.append(end)
        return at_limit(shutdown, end, longest)

    monkeypatch.setattr(Shutdown, "at_limit", noted)
    log = MemoryLog()
    log.append(Token("before"))
    async with exchange(EventStream(log), **state()) as stream:
        assert "before" in await stream.text()
        await asyncio.sleep(0)  # it waits for the log again
        stream.taking.clear()
        log.append(Token("at the limit"))
        limits[-1]()
        for _ in range(10):
            await asyncio.sleep(0)
        stream.taking.set()
        assert [event.name for event in parse(await stream.rest())] == ["error", "done"]
        assert not stream.aborted


async def test_who_comes_back_to_a_log_after_that_misses_nothing() -> None:
    log, read = MemoryLog(), list[Received]()
    for number in range(1, 4):
        log.append(Token(str(number)))
        async with exchange(EventStream(log, after=len(read)), **state(longest=SOON)) as stream:
            *new, error, done = parse(await stream.rest())
        assert (error.data["code"], done, error.id) == (
            "server_shutdown",
            Received("done", {"reason": "shutdown"}),
            None,
        )
        read += new
    assert [(event.id, event.data["text"]) for event in read] == [(str(number), str(number)) for number in (1, 2, 3)]


@pytest.mark.parametrize("stalls", [False, True])
async def test_at_the_limit_of_its_stream_a_slow_client_gets_its_piece_and_one_that_stalls_is_cut_off(
    stalls: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if stalls:
        monkeypatch.setattr("app.streams.response.FAREWELL_SECONDS", SOON)
    source = Source()
    async with exchange(EventStream(source()), **state(longest=SOON)) as stream:
        stream.taking.clear()
        source.tokens.put_nowait("slow")
        while "a stream has lasted 0.02 s" not in caplog.text:
            await asyncio.sleep(0.001)
        if stalls:
            await stream.until_ended()
        else:
            stream.taking.set()
            assert [event.name for event in parse(await stream.rest())] == ["token", "error", "done"]
        assert stream.aborted is stalls
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


async def test_a_source_that_can_be_asked_for_its_end_only_once_ends_well() -> None:
    class Queued:
        def __init__(self) -> None:
            self.items: asyncio.Queue[Event | None] = asyncio.Queue()

        def __aiter__(self) -> AsyncIterator[Event]:
            return self

        async def __anext__(self) -> Event:
            if (item := await self.items.get()) is None:
                raise StopAsyncIteration
            return item

    source = Queued()
    for item in (Token("a"), None):
        source.items.put_nowait(item)
    async with exchange(EventStream(source), **state()) as stream:
        assert [event.name for event in parse(await stream.rest())] == ["token", "done"]


async def test_a_source_that_goes_on_after_its_done_is_stopped_and_starves_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", SOON)

    async def endless() -> AsyncGenerator[Event, None]:
        yield Done()
        while True:
            yield Token("too late")

    async with exchange(EventStream(endless()), **state()) as stream:
        assert [event.name for event in parse(await stream.rest())] == ["done"]


async def test_no_keep_alive_follows_a_done() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield Done()
        await asyncio.sleep(5 * SOON)

    async with exchange(EventStream(source()), **state(heartbeat=SOON)) as stream:
        assert "keep-alive" not in await stream.rest()


async def test_a_piece_after_a_long_silence_has_the_whole_send_timeout() -> None:
    source = Source()
    async with exchange(EventStream(source()), **state(send_timeout=0.8)) as stream:
        await asyncio.sleep(0.6)
        stream.taking.clear()
        source.tokens.put_nowait("slow")
        await asyncio.sleep(0.4)
        stream.taking.set()
        assert "slow" in await stream.text()
        assert not stream.aborted


async def test_a_source_is_cancelled_once_at_the_drain_limit_and_when_its_client_leaves_meanwhile() -> None:
    told, cleaning, shared = [], asyncio.Event(), state(drain=0)

    async def source() -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Token("word")
                await asyncio.sleep(0)
        finally:
            cleaning.set()
            await asyncio.sleep(SOON)
            told.append("cleaned up")

    async with exchange(EventStream(source()), **shared) as stream:
        await stream.text()
        stream.taking.clear()
        await asyncio.sleep(0)
        shared["shutdown"].begin()
        while not shared["shutdown"].expired:
            await asyncio.sleep(0)
        stream.taking.set()
        await asyncio.wait_for(cleaning.wait(), 10)
        stream.gone.set()
        await stream.until_ended()
    assert told == ["cleaned up"]


async def test_cut_short_from_outside_it_does_not_look_whole_behind_a_middleware_of_starlettes() -> None:
    """`BaseHTTPMiddleware` ends a body for an application that has returned."""
    ended_by = anyio.CancelScope()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        with ended_by:
            await EventStream(Source()())(scope, receive, send)

    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    async with exchange(BaseHTTPMiddleware(inner, dispatch=pass_on), **state()) as stream:
        ended_by.cancel()
        await stream.until_ended()
        assert stream.aborted


async def test_without_a_transport_to_abort_what_can_not_end_properly_is_raised() -> None:
    async with exchange(EventStream(Source()()), **state(heartbeat=SOON, send_timeout=SOON), transport=None) as stream:
        stream.taking.clear()
        await stream.until_ended()
        assert isinstance(stream.call.exception(), ConnectionError)


async def test_an_encoder_that_fails_at_a_keep_alive_ends_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    def failing(event: Event, id: int | None) -> bytes:  # noqa: A002
        raise ValueError("no keep-alive in this dialect")

    source = Source()
    async with exchange(EventStream(source(), failing), **state(heartbeat=SOON)) as stream:
        await stream.until_ended()
        assert source.cleaned_up.is_set()
        assert stream.aborted
    assert "no keep-alive in this dialect" in caplog.text


async def test_a_source_that_cancels_itself_is_an_error_and_not_our_end() -> None:
    async with exchange(EventStream(made_of(Token("a"), asyncio.CancelledError())), **state()) as stream:
        assert [event.name for event in parse(await stream.rest())] == ["token", "error", "done"]


@pytest.mark.parametrize("ending", ["client leaves", "drain"])
async def test_a_source_that_will_not_close_is_left_behind_with_a_word(
    ending: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", SOON)

    async def stubborn() -> AsyncGenerator[Event, None]:
        try:
            yield Token("a")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)

    shared = state(drain=0)
    async with exchange(EventStream(stubborn()), **shared) as stream:
        await stream.text()
        if ending == "drain":
            shared["shutdown"].begin()
        else:
            stream.gone.set()
        names = [event.name for event in parse(await stream.rest())]
        assert names == (["error", "done"] if ending == "drain" else [])
    assert "has not closed" in caplog.text


async def test_background_tasks_run_when_a_cancel_scope_ends_the_response() -> None:
    ran, ended_by = asyncio.Event(), anyio.CancelScope()

    async def task() -> None:
        await asyncio.sleep(0.001)
        ran.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = EventStream(Source()())
        response.background = BackgroundTask(task)
        with ended_by:
            await response(scope, receive, send)

    async with exchange(app, **state()) as stream:
        ended_by.cancel()
        await stream.until_ended()
    assert ran.is_set()


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


async def test_a_dying_stream_says_so_in_the_log_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with exchange(EventStream(made_of(KeyError("x"))), **state()) as stream:
        await stream.rest()
    assert [record.message for record in caplog.records] == ["stream failed"]


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError()])
async def test_an_encoder_that_raises_what_is_no_exception_ends_its_stream_alone(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(event: Event, id: int | None) -> bytes:  # noqa: A002
        if isinstance(event, Token):
            raise raised
        return encode(event, id)

    async with exchange(EventStream(made_of(Token("a")), failing), **state()) as stream:
        assert [event.name for event in parse(await stream.rest())] == ["error", "done"]
    assert "stream failed" in caplog.text


async def test_at_the_drain_limit_a_slow_client_gets_one_done(dialect: Dialect) -> None:
    """The last piece is on its way, and its `done` with it."""
    shared, log = state(drain=SOON), MemoryLog()
    async with exchange(EventStream(log, dialect.encode), **shared) as stream:
        stream.taking.clear()
        log.append(Token("slow"), Done())
        shared["shutdown"].begin()
        while not shared["shutdown"].expired:
            await asyncio.sleep(0.001)
        stream.taking.set()
        assert dialect.names(await stream.rest()) == ["token", "done"]


async def test_a_request_that_can_not_be_read_to_its_end_cuts_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def too_large() -> Message:
            raise ValueError("the body is too large")

        await EventStream(source())(scope, too_large, send)

    async with exchange(app, **state()) as stream:
        await stream.until_ended()
        assert stream.aborted
        assert source.cleaned_up.is_set()
    assert "the body is too large" in caplog.text


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), RuntimeError()])
async def test_an_encoder_that_can_not_say_the_last_words_either_cuts_the_stream(raised: BaseException) -> None:
    def failing(event: Event, id: int | None) -> bytes:  # noqa: A002
        raise raised

    before = asyncio.all_tasks()
    async with exchange(EventStream(made_of(Token("a")), failing), **state()) as stream:
        await stream.until_ended()
        assert stream.aborted
        assert stream.call.exception() is None
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


async def test_a_client_that_leaves_a_log_that_never_pauses_is_noticed() -> None:
    """Each time its reader could be cancelled, there is more to read already."""

    async def endless() -> AsyncGenerator[Event, None]:
        while True:
            yield Token("word ")

    run = Run(endless(), log := MemoryLog())
    async with exchange(EventStream(log), **state()) as stream:
        assert await stream.text()
        stream.gone.set()
        await stream.until_ended()
    await run.close()

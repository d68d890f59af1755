"""How the reading of a stream ends is told once, whoever ends it; and a response to nobody has its end too."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app.streams.events import Event, Token
from app.streams.log import MemoryLog
from app.streams.response import EventStream
from tests.asgi import Exchange, exchange, state
from tests.streams.dialects import Number

SOON = 0.02


def outcomes(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [vars(record)["outcome"] for record in caplog.records if record.message == "reader ended"]


@pytest.fixture(autouse=True)
def tells(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "app.telemetry")


async def words(*then: Event | BaseException) -> AsyncGenerator[Event, None]:
    """And silence, if nothing else follows."""
    yield Token("a")
    for each in then:
        if isinstance(each, BaseException):
            raise each
        yield each
    if not then:
        await asyncio.sleep(60)


async def leaves(stream: Exchange) -> None:
    assert "token" in await stream.text()
    stream.gone.set()


async def takes_nothing(stream: Exchange) -> None:
    stream.taking.clear()


async def stays(stream: Exchange) -> None:
    await stream.rest()


@pytest.mark.parametrize(
    ("client", "then", "limits", "outcome"),
    [
        (stays, (Token("b"),), {}, "end"),
        (stays, (RuntimeError("a source, on purpose"),), {}, "end"),  # its log has an end, and the reader got it
        (leaves, (), {}, "left"),
        (takes_nothing, (), {"send_timeout": SOON, "heartbeat": SOON}, "stalled"),
        (stays, (), {"longest": SOON}, "sent_back"),
        (stays, (), {"drain": 0}, "sent_back"),
        (takes_nothing, (), {"longest": SOON, "heartbeat": SOON / 4}, "sent_back"),
        (stays, (Number(float("nan")),), {}, "failed"),
    ],
    ids=["whole", "source fails", "left", "stalled", "longest", "drain", "longest, stalled", "no JSON"],
)
async def test_how_a_reading_ends_is_told_once(
    client: Any, then: Any, limits: dict[str, float], outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = state(**limits)
    async with exchange(EventStream(words(*then)), **shared) as stream:
        if "drain" in limits:
            shared["shutdown"].begin()
        await client(stream)
        await stream.until_ended()
        assert outcomes(caplog) == [outcome]
        assert stream.has_end
    assert outcomes(caplog) == [outcome]


async def test_a_log_that_turns_out_to_be_another_sends_its_readers_back(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    async with exchange(EventStream(log), **state()) as stream:
        log.cut()
        await stream.until_ended()
    assert outcomes(caplog) == ["sent_back"]


async def test_one_who_is_lost_while_something_is_sent_has_left(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def fails(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise BrokenPipeError
            await send(message)

        await EventStream(words())(scope, receive, fails)

    async with exchange(app, **state()) as stream:
        await stream.until_ended()
    assert outcomes(caplog) == ["left"]


async def test_where_a_server_takes_nothing_for_one_who_has_left_the_response_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may say so by an OSError, or wait for ever."""
    monkeypatch.setattr("app.streams.client.CUT_SECONDS", SOON)

    async def waits(message: Any) -> None:
        await asyncio.sleep(60)

    async def fails(message: Any) -> None:
        raise OSError("the client has left")

    for behaves in (waits, fails):

        async def app(scope: Scope, receive: Receive, send: Send, behaves: Any = behaves) -> None:
            gone = asyncio.Event()

            async def receives() -> Any:
                message = await receive()
                gone.set()
                return message

            await EventStream(words())(scope, receives, lambda message: (behaves if gone.is_set() else send)(message))

        async with exchange(app, **state()) as stream:
            await leaves(stream)
            await stream.until_ended()
            await stream.call  # raises nothing
    assert outcomes(caplog) == ["left", "left"]


async def test_one_whose_request_is_cancelled_is_told_of_too(caplog: pytest.LogCaptureFixture) -> None:
    async with exchange(EventStream(words()), **state()) as stream:
        stream.call.cancel()
        await stream.until_ended()
    assert outcomes(caplog) == ["failed"]

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from app.streams.events import Done, Event, Token, encode
from app.streams.wire import PIECE_BYTES, Wire
from tests.sse import parse

MOST_AHEAD = 64 * 1024


class Client:
    """Takes pieces while `taking` is set."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.wire = Wire(self.send, encode, 1)

    async def send(self, message: Message) -> None:
        await self.taking.wait()
        self.pieces.append(message["body"])

    @property
    def words(self) -> list[list[str]]:
        return [[event.data["text"] for event in parse(piece.decode())] for piece in self.pieces]


async def test_an_event_is_out_before_the_next_is_asked_for_unless_that_is_there_already() -> None:
    client, seen = Client(), []

    async def source() -> AsyncGenerator[Event, None]:
        for number in range(100):
            yield Token(str(number))
            await asyncio.sleep(0)
            seen.append(client.words[-1][-1])

    await client.wire.carry(source())
    assert seen == [str(number) for number in range(100)]


async def test_the_first_event_is_out_before_anything_else_is_asked_of_the_source() -> None:
    client, seen = Client(), []

    async def source() -> AsyncGenerator[Event, None]:
        yield Token("first")
        seen.append(client.words)
        yield Token("second")

    await client.wire.carry(source())
    assert seen == [[["first"]]]


async def test_events_that_are_ready_together_go_out_together() -> None:
    client = Client()

    async def source() -> AsyncGenerator[Event, None]:
        for number in range(1000):
            yield Token(str(number))
        await asyncio.sleep(0)
        yield Token("last")

    await client.wire.carry(source())
    assert [word for piece in client.words for word in piece] == [*map(str, range(1000)), "last"]
    assert len(client.pieces) < 200
    assert client.words[-1] == ["last"]


async def test_a_source_that_computes_without_waiting_holds_no_event_back() -> None:
    client, seen = Client(), []
    loop = asyncio.get_running_loop()

    async def source() -> AsyncGenerator[Event, None]:
        for number in range(20):
            until = loop.time() + 0.003
            while loop.time() < until:
                pass
            seen.append(sum(map(len, client.words)))
            yield Token(str(number))

    await client.wire.carry(source())
    assert all(number - out <= 1 for number, out in enumerate(seen))


async def test_a_source_that_never_waits_leaves_the_loop_its_turns() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        while True:
            yield Token("word")

    carrying = asyncio.create_task(Client().wire.carry(source()))
    for _ in range(3):
        await asyncio.sleep(0.001)
    assert not carrying.done()
    carrying.cancel()
    await asyncio.wait({carrying}, timeout=5)
    assert carrying.cancelled()


@pytest.mark.parametrize("size", [10, 1000, 10_000])
@pytest.mark.parametrize("waits", [True, False])
async def test_nothing_is_asked_of_the_source_while_the_client_takes_nothing(waits: bool, size: int) -> None:
    client = Client()
    asked = 0

    async def source() -> AsyncGenerator[Event, None]:
        nonlocal asked
        while True:
            asked += 1
            if waits:
                await asyncio.sleep(0)
            yield Token("x" * size)

    carrying = asyncio.create_task(client.wire.carry(source()))
    while not client.pieces:
        await asyncio.sleep(0)
    client.taking.clear()
    while not client.wire.sending:
        await asyncio.sleep(0)
    before, taken = asked, sum(map(len, client.pieces))
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked == before
    assert asked * size - taken <= MOST_AHEAD
    carrying.cancel()
    await asyncio.wait({carrying}, timeout=5)


def test_a_piece_stays_below_what_may_be_pulled_ahead() -> None:
    assert 2 * PIECE_BYTES <= MOST_AHEAD


async def test_cancelled_while_a_piece_is_not_taken_the_source_is_cancelled_where_it_waits() -> None:
    """And an `await` in its `finally` runs to its end."""
    client, told = Client(), []

    async def source() -> AsyncGenerator[Event, None]:
        for word in "abc":
            yield Token(word)
        client.taking.clear()
        yield Token("not taken")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.001)
            told.append("cleaned up")

    carrying = asyncio.create_task(client.wire.carry(source()))
    while not client.wire.sending:
        await asyncio.sleep(0)
    carrying.cancel()
    await asyncio.wait({carrying}, timeout=5)
    assert carrying.cancelled()
    assert told == ["cancelled", "cleaned up"]
    assert client.wire.torn


async def test_what_the_source_waits_for_is_cancelled_first_and_may_have_others_who_wait_for_it() -> None:
    """As it would be where a task waits for it; while the client takes nothing, too."""
    client = Client()
    child = asyncio.create_task(asyncio.sleep(60))

    async def source() -> AsyncGenerator[Event, None]:
        for word in "abc":
            yield Token(word)
        client.taking.clear()
        yield Token("not taken")
        await child

    async def other() -> None:
        await child

    carrying = asyncio.create_task(client.wire.carry(source()))
    while not client.wire.sending:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    assert not waiting.done()
    carrying.cancel()
    await asyncio.wait({carrying, child, waiting}, timeout=5)
    assert carrying.cancelled()
    assert child.cancelled()


async def test_a_future_that_others_wait_for_gives_its_result_to_a_stream_whose_client_was_slow() -> None:
    client = Client()
    shared: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def source() -> AsyncGenerator[Event, None]:
        for word in "abc":
            yield Token(word)
        client.taking.clear()
        yield Token("slow")
        yield Token(await shared)

    async def other() -> str:
        return await shared

    carrying = asyncio.create_task(client.wire.carry(source()))
    while not client.wire.sending:
        await asyncio.sleep(0)
    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    client.taking.set()
    await asyncio.sleep(0)
    shared.set_result("shared")
    assert await asyncio.wait_for(waiting, 5) == "shared"
    await asyncio.wait_for(carrying, 5)
    assert client.words[-1] == ["shared"]


async def test_nothing_is_sent_after_a_piece_that_was_interrupted() -> None:
    """Whatever the source makes of its cancellation: the piece may be out or not, so an id might be missing."""
    client = Client()

    async def source() -> AsyncGenerator[Event, None]:
        yield Token("a")
        await asyncio.sleep(0)
        client.taking.clear()
        yield Token("not taken")
        yield Token("too late")

    carrying = asyncio.create_task(client.wire.carry(source()))
    while not client.wire.sending:
        await asyncio.sleep(0)
    carrying.cancel()
    await asyncio.wait({carrying}, timeout=5)
    client.taking.set()
    assert client.wire.torn
    with pytest.raises(asyncio.CancelledError):
        await client.wire.end(Done())
    assert client.words == [["a"]]


async def test_an_error_comes_after_the_events_before_it() -> None:
    client = Client()

    async def failing() -> AsyncGenerator[Event, None]:
        for word in "abcd":
            yield Token(word)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await client.wire.carry(failing())
    await client.wire.end(Done())
    assert [event.name for event in parse(b"".join(client.pieces).decode())] == [*["token"] * 4, "done"]


async def test_any_async_iterator_will_do() -> None:
    class Words:
        def __init__(self) -> None:
            self.left = ["b", "a"]

        def __aiter__(self) -> AsyncIterator[Event]:
            return self

        async def __anext__(self) -> Event:
            await asyncio.sleep(0)
            if not self.left:
                raise StopAsyncIteration
            return Token(self.left.pop())

    client = Client()
    await client.wire.carry(Words())
    assert client.words == [["a"], ["b"]]


@pytest.mark.parametrize("before", [0, 1, 5])
async def test_a_time_limit_that_the_source_holds_over_its_events_works(before: int) -> None:
    async def slow() -> AsyncGenerator[Event, None]:
        async with asyncio.timeout(0.01):
            for _ in range(before):
                yield Token("in time")
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await Client().wire.carry(slow())


async def test_what_the_source_waits_for_may_fail() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        for _ in range(5):
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_exception, KeyError("model"))
            try:
                await future
            except KeyError as error:
                yield Token(str(error))

    client = Client()
    await client.wire.carry(source())
    assert client.words == [["'model'"]] * 5

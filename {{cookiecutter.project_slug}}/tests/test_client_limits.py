import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from app.client_limits import Connection, Unfinished, limit_clients
from tests.test_connections import Lifespan, Transport, unknown


async def test_a_connection_that_waits_too_long_for_its_request_is_cut_and_others_are_not() -> None:
    unfinished, slow, quick = Unfinished(0.01, most=10), Transport(), Transport()
    for transport in (quick, slow):
        unfinished.add(transport)  # type: ignore[arg-type]
    unfinished.discard(quick)  # type: ignore[arg-type]
    await asyncio.wait_for(slow.aborted.wait(), 60)
    assert not quick.aborted.is_set()


async def test_between_two_requests_a_connection_has_the_time_of_uvicorn() -> None:
    """A balancer keeps it for its own next request, as long as `--timeout-keep-alive` lets it."""
    unfinished, idle, asks = Unfinished(0.01, most=10), Transport(), Transport()
    for transport in (idle, asks):
        unfinished.add(transport, idle=True)  # type: ignore[arg-type]
    unfinished.add(asks)  # type: ignore[arg-type]
    unfinished.add(asks, idle=True)  # type: ignore[arg-type]
    await asyncio.wait_for(asks.aborted.wait(), 60)
    assert not idle.aborted.is_set()


async def test_where_too_many_wait_it_is_the_first_that_is_cut() -> None:
    """So whoever comes, as a health check, is heard."""
    unfinished, transports = Unfinished(60, most=2), [Transport() for _ in range(4)]
    for transport in transports:
        unfinished.add(transport)  # type: ignore[arg-type]
        unfinished.add(transport)  # type: ignore[arg-type]
    assert [transport.aborted.is_set() for transport in transports] == [True, True, False, False]


@pytest.mark.parametrize("parser", ["auto", "h11"])
def test_requests_are_limited_unless_another_parser_was_chosen(parser: str, caplog: pytest.LogCaptureFixture) -> None:
    lifespan, chosen = Lifespan(http=parser, http_protocol_class=None), Lifespan(http="httptools")
    limit_clients(lifespan.receive, 30, 30, 9)
    assert lifespan.config.http_protocol_class is not None
    assert not caplog.text
    limit_clients(chosen.receive, 30, 30, 9)
    assert caplog.text.count("--http httptools: clients have no time limits") == 1
    limit_clients(unknown, 30, 30, 9)


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def served(app: ASGIApp, unfinished: Unfinished) -> AsyncIterator[Open]:
    """By uvicorn, in this process, with limits for its clients."""
    config, state = Config(app, lifespan="off", log_config=None), ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(unfinished, 60, config=config, server_state=state, app_state={}), "127.0.0.1"
    )
    clients = []

    async def open_one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        clients.append(await asyncio.open_connection(*server.sockets[0].getsockname()))
        return clients[-1]

    try:
        yield open_one
    finally:
        server.close()
        for _, writer in clients:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        while state.connections:
            await asyncio.sleep(0)


@pytest.mark.parametrize("comes", ["with its head", "behind the response", "amid the response"])
async def test_a_body_that_can_not_be_read_is_no_fault_of_the_server(
    comes: str, caplog: pytest.LogCaptureFixture
) -> None:
    app_ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if comes == "amid the response":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        await PlainTextResponse("a")(scope, receive, send)
        app_ended.set()

    async with served(app, Unfinished(60, most=10)) as open_one:
        reader, writer = await open_one()
        parts = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"no chunk\r\n"]
        if comes == "with its head":
            parts = [b"".join(parts), b""]
        writer.write(parts[0])
        await reader.readuntil(b"a")  # of a body, or of "Bad Request"
        writer.write(parts[1])
        await asyncio.wait_for(reader.read(), 60)
        await asyncio.wait_for(app_ended.wait(), 60)
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_who_has_had_a_response_and_asks_no_more_makes_way_too() -> None:
    """Else many health checks of somebody without a key would take all descriptors."""
    async with served(PlainTextResponse("a"), Unfinished(60, most=2)) as open_one:
        clients = []
        for _ in range(4):
            reader, writer = await open_one()
            writer.write(HEAD + b"\r\n")
            await reader.readuntil(b"\r\n\r\na")
            clients.append(reader)
        for reader in clients[:2]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.write(HEAD + b"\r\n")
        assert await clients[3].readuntil(b"\r\n\r\na")


async def test_who_still_takes_a_response_does_not_wait_for_a_request() -> None:
    """A large one, such as a job's result, is complete for uvicorn long before its client has all of it."""
    size = 32 * 1024 * 1024  # more than the kernel takes
    async with served(PlainTextResponse(b"a" * size), Unfinished(60, most=1)) as open_one:
        reader, writer = await open_one()
        writer.write(HEAD + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        (first, _), (second, _) = await open_one(), await open_one()
        assert await asyncio.wait_for(first.read(), 60) == b""
        assert len(await asyncio.wait_for(reader.readexactly(size), 60)) == size
        assert await asyncio.wait_for(second.read(), 60) == b"", "now the one that has taken all of it waits too"


class Noted(Unfinished):
    """Of one connection, what it was last."""

    last = ""

    def add(self, transport: asyncio.Transport, idle: bool = False) -> None:
        self.last = "idle" if idle else "waited for"
        super().add(transport, idle)

    def discard(self, transport: asyncio.Transport) -> None:
        self.last = "served"
        super().discard(transport)


async def test_a_connection_is_idle_from_a_response_to_the_first_byte_of_the_next_request() -> None:
    noted = Noted(60, most=10)
    async with served(PlainTextResponse("a"), noted) as open_one:
        reader, writer = await open_one()
        writer.write(HEAD + b"\r\n")
        await reader.readuntil(b"\r\n\r\na")
        assert noted.last == "idle"
        writer.write(b"GET")
        async with asyncio.timeout(60):
            while noted.last != "waited for":
                await asyncio.sleep(0)

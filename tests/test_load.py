"""Very many streams at once, and readers that take nothing: all are served, and nothing of them stays behind."""

import asyncio
import io
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any

import httpx
import httpx_sse
import pytest
from rendering import ROOT, environment
from running import START_SECONDS, Server, request, running, serving_base

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
STREAMS = 5_000
MAX_STREAMS = 2_000  # the setting's default
REFUSED = 200
FLOOD = 3_000
ROUNDS = (5, 2)  # of the first wave and of the one that shows whether it has left something behind
AT_ONCE = 500  # new connections, which a server's backlog holds
STALLED = 50
STALLED_WAVES = 3
MORE = 1.05  # as much memory as in the first wave
AHEAD_BYTES = 64 * 1024
SETTLE_SECONDS = 120.0  # past it, what has not come never will


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let this process and those that it starts open as many as the tests want."""
    import resource  # there is none on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = STREAMS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.fail(f"no more than {hard} descriptors may be open here, and {wanted} are wanted: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server(descriptors: None) -> Iterator[Server]:
    """One worker. Nobody here waits for a keep-alive."""
    limits = {"HEARTBEAT_SECONDS": "600", "SEND_TIMEOUT_SECONDS": "1", "MAX_STREAMS": str(STREAMS)}
    with serving_base("streaming_app:app", **limits) as server:
        yield server


def ask(server: Server, path: str) -> Any:
    return json.load(server.request("GET", path))


def settles(state: Callable[[], Any], expected: Any) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := state()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == expected


class Crowd:
    """Very many readers of one path, and how many frames they have read, and how many responses."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        self.readers: list[Reader] = []
        self.frames = 0
        self.ended = 0
        self.news = asyncio.Event()

    async def join(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        opening = (loop.create_connection(lambda: Reader(self), "127.0.0.1", self.port) for _ in range(count))
        self.readers += [reader for _, reader in await asyncio.gather(*opening)]

    async def until(self, come: Callable[[], bool]) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not come():
                self.news.clear()
                await self.news.wait()


class Reader(asyncio.Protocol):
    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self.crowd.request)

    def data_received(self, data: bytes) -> None:
        new = max(0, len(self.received) - 1)  # the first half of a frame's end may have come before
        self.received += data
        self.crowd.frames += self.received.count(b"\n\n", new)
        self.crowd.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.ended += 1
        self.crowd.news.set()

    def makefile(self, mode: str) -> io.BytesIO:
        """What HTTPResponse asks of a socket."""
        return io.BytesIO(self.received)

    def body(self) -> bytes:
        """Raises where it is not a whole response, up to the last chunk."""
        response = HTTPResponse(self)  # type: ignore[arg-type]
        response.begin()
        assert response.status == 200
        assert response.chunked
        return response.read()


async def wave(server: Server, rounds: int) -> tuple[set[bytes], int]:
    """Open all streams, then begin round by round when each has read all that came before.

    Give what was read, and the memory that the server held with all of them open.
    """
    crowd = Crowd(server.port, f"/rounds?count={rounds}")
    while (count := len(crowd.readers)) < STREAMS:
        await crowd.join(min(AT_ONCE, STREAMS - count))
        await crowd.until(lambda: crowd.frames == len(crowd.readers))
    memory = (await asyncio.to_thread(ask, server, "/usage"))["memory"]
    for number in range(1, rounds + 1):
        await asyncio.to_thread(server.request, "POST", "/rounds")
        frames = (number + 1) * STREAMS + (number == rounds) * STREAMS
        await crowd.until(lambda: crowd.frames >= frames)  # noqa: B023
    await crowd.until(lambda: crowd.ended == STREAMS)
    return {reader.body() for reader in crowd.readers}, memory


def events(body: bytes) -> list[tuple[str, str, Any]]:
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=body)
    found = httpx_sse.EventSource(response).iter_sse()
    return [(event.id, event.event, event.json()) for event in found if event.data]  # a keep-alive has none


@pytest.mark.slow
def test_thousands_of_streams_at_once_are_all_served_and_leave_nothing_behind(server: Server) -> None:
    """Each gets every event, numbered without a gap, and one `done`. Then again, in no more memory.

    Memory is compared with all streams open, when what the allocators have kept is used again: with none open, it
    grows from wave to wave under a bare ASGI application too. What is left of the streams is counted in blocks.
    """
    before = ask(server, "/usage")["descriptors"]
    memory, blocks = [], []
    for rounds in ROUNDS:
        (body,), held = asyncio.run(wave(server, rounds))
        expected: list[tuple[str, Any]] = [("status", {"state": "thinking", "stream_id": "-"})]
        expected += [("token", {"text": str(number)}) for number in range(1, rounds + 1)]
        expected += [("done", {"reason": "end"})]
        assert events(body) == [(str(number), *event) for number, event in enumerate(expected, start=1)]
        settles(lambda: ask(server, "/usage")["descriptors"], before)
        memory.append(held)
        blocks.append(ask(server, "/usage")["blocks"])
    assert memory[-1] < memory[0] * MORE, memory
    assert blocks[-1] - blocks[0] < STREAMS / 2, blocks  # not one for every second stream of the later wave


@pytest.mark.slow
def test_thousands_of_silent_readers_are_all_told_when_the_server_stops(descriptors: None) -> None:
    """Each of them has had a keep-alive. The server is gone within the drain time and 5 s, or on a busy machine as long
    as it took them to come."""
    drain = 0.5
    limits = {"HEARTBEAT_SECONDS": "1", "DRAIN_SECONDS": str(drain), "MAX_STREAMS": str(STREAMS)}
    with serving_base("streaming_app:app", **limits) as server:

        async def stopped() -> tuple[Crowd, float, float]:
            crowd, began = Crowd(server.port, "/rounds?count=1"), time.monotonic()
            while (count := len(crowd.readers)) < STREAMS:
                await crowd.join(min(AT_ONCE, STREAMS - count))
                await crowd.until(lambda: crowd.frames >= len(crowd.readers))
            opening = time.monotonic() - began
            for reader in crowd.readers:
                await crowd.until(lambda: b"keep-alive" in reader.received)  # noqa: B023
            began = time.monotonic()
            gone = asyncio.create_task(asyncio.to_thread(server.process.stop, seconds=60))
            await crowd.until(lambda: crowd.ended == STREAMS)
            await gone
            return crowd, opening, time.monotonic() - began

        crowd, opening, took = asyncio.run(stopped())
        for reader in crowd.readers:
            *_, error, done = events(reader.body())
            assert (error[2]["code"], done[1:]) == ("server_shutdown", ("done", {"reason": "shutdown"}))
        print(f"{STREAMS} came within {opening:.1f} s, and were told within {took:.1f} s")
        assert took < drain + max(5.0, opening)


@pytest.mark.slow
def test_beyond_max_streams_a_server_says_so_and_its_descriptors_last(descriptors: None) -> None:
    """With the limits as they come, where a process may have but 1,024 descriptors until it asks for more."""
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, allowed[1]))
    with serving_base("streaming_app:app", HEARTBEAT_SECONDS="600") as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)

        async def full() -> None:
            crowd = Crowd(server.port, "/rounds?count=1")
            while (count := len(crowd.readers)) < MAX_STREAMS:
                await crowd.join(min(AT_ONCE, MAX_STREAMS - count))
                await crowd.until(lambda: crowd.frames == len(crowd.readers))
            more = Crowd(server.port, "/rounds?count=1")
            await more.join(REFUSED)
            await more.until(lambda: more.ended == REFUSED)
            assert {bytes(reader.received).partition(b"\r\n")[0] for reader in more.readers} == {
                b"HTTP/1.1 503 Service Unavailable"
            }
            assert await asyncio.to_thread(ask, server, "/health") == {"status": "ok"}
            assert (await asyncio.to_thread(ask, server, "/usage"))["descriptors"] > MAX_STREAMS
            await asyncio.to_thread(server.request, "POST", "/rounds")
            await crowd.until(lambda: crowd.ended == MAX_STREAMS)
            for reader in crowd.readers:
                assert events(reader.body())[-1][1:] == ("done", {"reason": "end"})

        asyncio.run(full())
        settles(lambda: server.request("GET", "/rounds?count=0").status, 200)
        assert "Too many open files" not in server.process.text


@pytest.mark.slow
def test_thousands_of_requests_of_one_caller_keep_no_other_from_its_answers() -> None:
    """How long those take, `benchmarks/abuse.py` measures."""
    callers = {"API_KEYS": "alice:key-of-alice,bob:key-of-bob", "ECHO_TOKEN_SECONDS": "0.01"}
    limits = {"REQUESTS_PER_MINUTE": "60", "MAX_STREAMS_PER_CALLER": "20"}
    with serving_base("streaming_app:app", **callers, **limits) as server:
        command = [sys.executable, "flood.py", str(server.port), "key-of-alice", str(FLOOD), "100"]
        with running(*command, cwd=ROOT / "benchmarks", env=environment()) as flood:
            flood.printed("refused")

            def asked(_: int) -> str:
                headers = {"Authorization": "Bearer key-of-bob"}
                response = request(server.port, "POST", "/chat/stream", '{"question": "word"}', headers)
                assert response.status == 200
                return response.read().decode()

            with ThreadPoolExecutor(10) as readers:
                answers = list(readers.map(asked, range(10)))
            assert ask(server, "/health") == {"status": "ok"}
            statuses = json.loads(flood.printed(r"\{.*\}")[0])
    assert [events(answer.encode())[-1][1:] for answer in answers] == [("done", {"reason": "end"})] * 10
    assert set(statuses) == {"200", "429"}
    assert sum(statuses.values()) == FLOOD
    assert statuses["429"] > FLOOD * 0.9  # it lasts for a minute or some, each of which has 60 more
    assert re.search("refused limit=.* caller=alice", server.process.text)
    assert "key-of" not in server.process.text


def stalled(server: Server, name: str) -> socket.socket:
    """A reader with little space that never reads."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(f"GET /endless/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return reader


def test_a_reader_that_takes_nothing_is_given_up_and_leaves_nothing_behind(server: Server) -> None:
    """While it stalls, its endless source is asked for little more than the server has accepted. After the send
    timeout the source is closed, and so is the connection, though the reader still holds its end."""
    before = ask(server, "/usage")["descriptors"]
    memory = []
    for number in range(1, STALLED_WAVES + 1):
        readers = [stalled(server, f"{number}-{name}") for name in range(STALLED)]
        settles(lambda: [flow["closed"] for flow in ask(server, "/flows")], [True] * number * STALLED)
        assert max(flow["ahead"] for flow in ask(server, "/flows")) <= AHEAD_BYTES
        settles(lambda: ask(server, "/usage")["descriptors"], before)
        memory.append(ask(server, "/usage")["memory"])
        for reader in readers:
            reader.close()
    assert memory[-1] < memory[0] * MORE, memory

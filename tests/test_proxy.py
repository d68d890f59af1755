"""Streams behind a real nginx that buffers, compresses and loses patience: nothing is held back, nothing is cut."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import IncompleteRead
from pathlib import Path

import pytest
from nginx import nginx
from running import START_SECONDS, Server, request, serving_base

pytestmark = pytest.mark.needs("nginx")
COUNT = 5


@pytest.fixture
def patience_seconds() -> int:
    """How long nginx waits for a server that says nothing."""
    return 2


@pytest.fixture
def heartbeat_seconds() -> float:
    return 0.25  # an eighth of that patience, for a busy machine is late


@pytest.fixture
def server(heartbeat_seconds: float) -> Iterator[Server]:
    with serving_base("streaming_app:app", HEARTBEAT_SECONDS=str(heartbeat_seconds)) as server:
        yield server


@pytest.fixture
def port(server: Server, patience_seconds: int, tmp_path: Path) -> Iterator[int]:
    """Where nginx listens, which stands before the server."""
    with nginx(tmp_path, server.port, patience_seconds=patience_seconds) as port:
        yield port


class Stream:
    """A response through the proxy, read as it comes, and only as far as it is asked for."""

    def __init__(self, port: int, path: str, encoding: str, seconds: float) -> None:
        self._response = request(port, "GET", path, headers={"Accept-Encoding": encoding}, seconds=seconds)
        assert self._response.status == 200
        assert self._response.chunked
        assert self._response.headers.get("Content-Encoding", "identity") == encoding
        self._inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        self.text = ""
        self.ended = False

    def until(self, text: str) -> None:
        """Read up to here."""
        while text not in self.text:
            assert not self.ended, f"no {text!r} in {self.text!r}"
            self._read()

    def rest(self) -> str:
        """Read to the end, and raise IncompleteRead where it does not end as HTTP says."""
        while not self.ended:
            self._read()
        assert self._inflate is None or self._inflate.eof
        return self.text

    def close(self) -> None:
        self._response.close()

    def _read(self) -> None:
        data = self._response.read1()
        self.ended = not data
        self.text += (self._inflate.decompress(data) if self._inflate else data).decode()


@pytest.fixture
def streams(port: int) -> Iterator[Callable[..., Stream]]:
    """`streams(encoding)`: a further stream, with a token in each of the next rounds, through the proxy."""
    with ExitStack() as opened:

        def stream(encoding: str = "identity", query: str = "", seconds: float = START_SECONDS) -> Stream:
            stream = Stream(port, f"/rounds?count={COUNT}{query}", encoding, seconds)
            return opened.enter_context(closing(stream))

        yield stream


def token(number: int) -> str:
    return f'id: {number + 1}\ndata: {{"text":"{number}"}}\n\n'


def follow(stream: Stream, server: Server) -> None:
    """Have each token made only when all before it have been read."""
    stream.until('"thinking"')
    for number in range(1, COUNT + 1):
        assert token(number) not in stream.text
        server.request("POST", "/rounds")
        stream.until(token(number))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_nothing_is_held_back(encoding: str, streams: Callable[..., Stream], server: Server) -> None:
    """The first event, each further one and the end are read before anything that comes later is made."""
    stream = streams(encoding)
    follow(stream, server)
    assert stream.rest().endswith(f'event: done\nid: {COUNT + 2}\ndata: {{"reason":"end"}}\n\n')


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_nothing_is_cut(encoding: str, streams: Callable[..., Stream], server: Server) -> None:
    """Through a silence far longer than the proxy's patience, keep-alives hold the stream: the rest comes, whole."""
    stream = streams(encoding)
    stream.until('"thinking"')
    stream.until(": keep-alive\n\n" * 12)
    follow(stream, server)
    assert stream.rest().count("event: done\n") == 1


@pytest.mark.parametrize("heartbeat_seconds", [60])
def test_without_keepalives_this_proxy_cuts(streams: Callable[..., Stream]) -> None:
    """What tells the test above from one that always passes."""
    stream = streams()
    with pytest.raises(IncompleteRead):
        stream.rest()
    assert '"thinking"' in stream.text


@pytest.mark.parametrize(("heartbeat_seconds", "patience_seconds"), [(60, 60)])
def test_what_may_be_buffered_this_proxy_holds_back(streams: Callable[..., Stream]) -> None:
    """What tells the first test from one that always passes: without our header, not even the `status` comes."""
    with pytest.raises(TimeoutError):
        streams("gzip", "&buffering=yes", seconds=1).until('"thinking"')

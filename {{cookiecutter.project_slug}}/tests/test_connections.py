import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Scope

from app.connections import Connections, processes
from app.shutdown import Shutdown


class Transport:
    """Can't be held weakly, as uvloop's for TLS."""

    __slots__ = ("aborted", "closing", "unsent")

    def __init__(self, unsent: int = 0, closing: bool = False) -> None:
        self.unsent = unsent
        self.closing = closing
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        assert not self.closing, "asyncio's transport for TLS fails then"
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted.set()

    def get_extra_info(self, name: str) -> object:
        return None


class Cycle:
    """What `send` is a method of in uvicorn."""

    def __init__(self, transport: Transport, more_body: bool = False) -> None:
        self.transport = transport
        self.more_body = more_body
        self.server_state = SimpleNamespace(connections=set())

    def on_response(self) -> None: ...

    async def send(self, message: Message) -> None: ...


def request() -> Scope:
    return {"type": "http", "state": {}}


def test_a_requests_transport_is_put_into_its_state() -> None:
    scope, cycle = request(), Cycle(Transport())
    Connections(lambda: None).note(scope, cycle.send)
    assert scope["state"] == {"transport": cycle.transport}


@pytest.mark.parametrize(
    ("state", "cut"),
    [({}, False), ({"unsent": 1}, True), ({"closing": True}, True), ({"more_body": True}, True)],
)
def test_a_client_that_stalls_is_cut_off_and_others_are_not(state: dict[str, Any], cut: bool) -> None:
    more_body = state.pop("more_body", False)
    connections, cycle = Connections(lambda: None), Cycle(Transport(**state), more_body)
    connections.note(request(), cycle.send)
    connections.cut_stalled()
    assert cycle.transport.aborted.is_set() == cut


def test_another_server_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def send(message: Message) -> None: ...

    connections, scope = Connections(lambda: None), request()
    for _ in range(2):
        connections.note(scope, send)
    assert scope["state"] == {}
    assert caplog.text.count("this server is not uvicorn") == 1


async def test_the_drain_tells_how_many_are_open(caplog: pytest.LogCaptureFixture) -> None:
    """Those of the server, of which some have sent no request yet."""
    caplog.set_level("INFO", "app")
    shutdown, cycle = Shutdown(5), Cycle(Transport())
    assert shutdown.connections.open == 0
    cycle.server_state.connections |= {"one", "another"}
    shutdown.connections.note(request(), cycle.send)
    shutdown.begin()
    assert vars(caplog.records[-1])["connections"] == 2


async def test_they_are_cut_when_the_drain_time_and_some_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.shutdown.GRACE_SECONDS", 0.02)
    shutdown, cycle = Shutdown(0), Cycle(Transport(unsent=1))
    shutdown.connections.note(request(), cycle.send)
    shutdown.begin()
    await asyncio.wait_for(cycle.transport.aborted.wait(), 10)


def test_a_server_that_stops_says_so_and_has_nobody_to_wait_for() -> None:
    stopped: list[str] = []
    connections, cycle = Connections(lambda: stopped.append("once")), Cycle(Transport())
    connections.note(request(), cycle.send)
    (told,) = cycle.server_state.connections
    told.shutdown()
    connections.note(request(), cycle.send)  # of a connection that was open already
    assert (stopped, cycle.server_state.connections) == (["once"], set())


class Lifespan:
    """What the `receive` of a lifespan is a method of in uvicorn, and in gunicorn's worker."""

    def __init__(self, **config: object) -> None:
        self.config = SimpleNamespace(**config)

    async def receive(self) -> Message:
        raise AssertionError


class Worker:
    def __init__(self, workers: int) -> None:
        self.cfg = SimpleNamespace(workers=workers)

    async def callback_notify(self) -> None: ...


async def unknown() -> Message:
    raise AssertionError


def test_how_many_processes_serve_is_known_if_the_server_says_it() -> None:
    assert processes(Lifespan(workers=4, callback_notify=None, should_reload=False).receive) == 4
    assert processes(Lifespan(workers=4, callback_notify=None, should_reload=True).receive) == 1
    assert processes(Lifespan(workers=1, callback_notify=Worker(3).callback_notify).receive) == 3
    assert processes(unknown) == 1

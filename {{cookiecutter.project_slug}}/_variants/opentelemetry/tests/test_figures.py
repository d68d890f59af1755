"""Figures of this moment: asked for by threads, looked at on the event loop, and none where nobody knows."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from starlette.types import Message, Receive, Scope, Send

from app.application import App
from app.figures import Told, figures
from app.otel import export, now, prometheus
from app.otel.export import Export
from app.otel.now import Running
from app.otel.prometheus import Exposition
from app.otel.settings import TelemetrySettings
from app.shutdown import Shutdown
from tests.server import free_port


class Backlog(NamedTuple):
    queued: int = 3
    running: int = 2
    retrying: int = 1
    oldest_seconds: float = 7.5


class Jobs:
    def __init__(self, answers: bool) -> None:
        self.answers = answers

    async def backlog(self) -> Backlog:
        if not self.answers:
            await asyncio.Event().wait()
        return Backlog()


class Broker:
    async def waiting(self) -> int:
        raise ConnectionError("a broker that is away, on purpose")


@pytest.fixture
async def observed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """All figures of a server whose rooms have opened these."""
    monkeypatch.setattr(now, "ANSWER_SECONDS", 0.1)
    servers: list[Running] = []

    async def observed(**state: Any) -> dict[str, list[float]]:
        servers.append(Running({"shutdown": Shutdown(2), "places": SimpleNamespace(taken=4), **state}))
        found = await asyncio.to_thread(servers[-1].observed)
        return {name: [each.value for each in several] for name, several in found.items() if several}

    yield observed
    for server in servers:
        await server.end()


async def test_each_status_of_a_job_is_a_figure(observed: Callable[..., Any]) -> None:
    found = await observed(jobs=Jobs(True))
    assert (found["jobs.count"], found["jobs.oldest_due.age"], found["chat.streams.open"]) == ([3, 2, 1], [7.5], [4])


async def test_what_is_away_has_no_figure_and_all_else_has(observed: Callable[..., Any]) -> None:
    found = await observed(jobs=Jobs(False), backend=Broker())
    assert {name.partition(".")[0] for name in found} == {"chat", "server", "event_loop"}


async def test_rooms_that_are_not_there_have_no_figures(observed: Callable[..., Any]) -> None:
    assert not {"chat.answers.running", "jobs.count"} & set(await observed())


async def test_an_event_loop_that_does_not_come_is_seen_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(now, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(now, "ANSWER_SECONDS", 0.05)
    shutdown = Shutdown(0.01)
    server = Running({"shutdown": shutdown, "places": SimpleNamespace(taken=0)})
    asking = asyncio.create_task(asyncio.to_thread(server.observed))
    await asyncio.sleep(0.05)
    time.sleep(0.5)  # noqa: ASYNC251 - on purpose
    await asking
    shutdown.begin()
    while server.lag < 0.4 or server.drains_since is None:
        await asyncio.sleep(0.01)
    await server.end()


@pytest.mark.parametrize("exports", [True, False], ids=["only traces", "nothing"])
def test_whatever_is_exported_is_sent_at_the_end_too(exports: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is told when the server ends: no thread of the SDK is waited for then."""
    settings = TelemetrySettings(_env_file=None, otel_metrics_exporter="none")
    monkeypatch.setattr(export, "set_up", lambda: Export(settings, flushes=[print] if exports else []))
    app = App.__new__(App)
    app.outside = []
    figures()(app)
    assert len(app.outside) == exports  # of Told


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    exposition = Exposition()
    provider = MeterProvider([exposition.reader], shutdown_on_exit=False)
    many = [Observation(number, {"number": number}) for number in range(20)]
    provider.get_meter("test").create_observable_gauge("many", [lambda _: many])
    yield exposition
    provider.shutdown()


def test_those_who_ask_at_once_are_each_told_all_of_it_once(exposition: Exposition) -> None:
    """Of a hundred at once, the reader alone tells one nothing, and another one that of both."""

    def times(_: int) -> int:
        return sum(metric.name == "many" for metric in exposition.collect())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads take turns amid their work
    with ThreadPoolExecutor(8) as threads:
        told = set(threads.map(times, range(1000)))
    sys.setswitchinterval(interval)
    assert told == {1}


def test_who_connects_to_the_port_and_says_nothing_is_left(
    exposition: Exposition, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prometheus.Handler, "timeout", 0.05)
    port = free_port()
    exposition.serve(IPv4Address("127.0.0.1"), port)
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        assert client.recv(1) == b""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        assert response.read().count(b'many{number="') == 20
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("processes", [1, 2])
async def test_several_processes_that_share_a_port_do_not_start(exposition: Exposition, processes: int) -> None:
    """Whoever asks would be told of one of them, by chance."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def starts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "it would have started"})

    server = App.__new__(App)
    server.processes = processes
    export = Export(TelemetrySettings(_env_file=None, metrics="prometheus"), exposition)
    await Told(starts, export, server)({"type": "lifespan", "state": {}}, receive, send)
    said = "METRICS: 2 processes share one port" if processes > 1 else "it would have started"
    assert [message["message"].startswith(said) for message in sent] == [True]

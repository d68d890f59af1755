"""What is so at this moment, as a room of the application: what runs, who reads, which jobs wait; and, where Prometheus
asks for it, the route that tells.

No room knows of it. It looks at what they have opened when the server has started. The metrics' threads ask for each
figure when they are about to tell it. So a figure is never older than that, and none is there for what can't be asked.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from time import monotonic
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Response
from opentelemetry.metrics import CallbackOptions, Observation, get_meter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.application import App, Room
from app.otel import export
from app.otel.export import Export
from app.otel.prometheus import ALONE

ANSWER_SECONDS = 1.0  # of a store that is asked for a figure
TICK_SECONDS = 0.25
LAG_SECONDS = 60.0  # a look once a minute sees each lag


class Running:
    """A server that runs."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        """`state` is what the rooms' lifespans have yielded."""
        self.state = state
        self.drains_since: float | None = None
        self.lag = 0.0
        self._lags = deque[float](maxlen=int(LAG_SECONDS / TICK_SECONDS))
        self._loop = asyncio.get_running_loop()
        self._ticks = asyncio.create_task(self._tick(), name="event loop lag")

    def ask(self, question: Coroutine[Any, Any, list[Observation]]) -> list[Observation]:
        """For a thread. Of what can't be said within ANSWER_SECONDS there is no figure."""
        asked = asyncio.run_coroutine_threadsafe(asyncio.wait_for(question, ANSWER_SECONDS), self._loop)
        try:
            return asked.result(2 * ANSWER_SECONDS)
        except Exception:  # whoever needs the store to do something says that it is away
            asked.cancel()
            return []

    async def end(self) -> None:
        self._ticks.cancel()
        await asyncio.wait({self._ticks})

    async def _tick(self) -> None:
        while True:
            due = monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._lags.append(max(0.0, monotonic() - due))
            self.lag = max(self._lags)
            if self.state["shutdown"].draining and self.drains_since is None:
                self.drains_since = monotonic()


running: list[Running] = []
"""The servers of this process, which has one but in tests."""

Figure = Callable[[Running], Iterable[Observation]]


def figure(name: str, unit: str, described: str) -> Callable[[Figure], Figure]:
    def register(look: Figure) -> Figure:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return look(running[-1]) if running else ()

        get_meter("app").create_observable_gauge(name, [observe], unit, described)
        return look

    return register


@figure("chat.answers.running", "{answer}", "Answers that are made at this moment.")
def answers_running(server: Running) -> Iterable[Observation]:
    if "answers" in server.state:
        yield from server.ask(answers_of(server))


async def answers_of(server: Running) -> list[Observation]:
    return [Observation(server.state["answers"].running)]


@figure("chat.streams.open", "{stream}", "Streams that are read at this moment.")
def streams_open(server: Running) -> Iterable[Observation]:
    yield Observation(server.state["places"].taken)


@figure("jobs.count", "{job}", "Jobs that have not ended, by their status.")
def jobs_count(server: Running) -> Iterable[Observation]:
    if "jobs" in server.state:
        yield from server.ask(jobs_of(server))


async def jobs_of(server: Running) -> list[Observation]:
    backlog = await server.state["jobs"].backlog()
    return [Observation(getattr(backlog, status), {"status": status}) for status in ("queued", "running", "retrying")]


@figure("jobs.oldest_due.age", "s", "How long the job has waited that ought to have begun first.")
def oldest_due(server: Running) -> Iterable[Observation]:
    if "jobs" in server.state:
        yield from server.ask(oldest_of(server))


async def oldest_of(server: Running) -> list[Observation]:
    return [Observation((await server.state["jobs"].backlog()).oldest_seconds)]


@figure("jobs.broker.waiting", "{message}", "Messages that wait at the broker.")
def broker_waiting(server: Running) -> Iterable[Observation]:
    if "backend" in server.state and not hasattr(server.state["backend"], "running"):  # that has no broker
        yield from server.ask(waiting_of(server))


async def waiting_of(server: Running) -> list[Observation]:
    return [Observation(await server.state["backend"].waiting())]


@figure("server.connections.open", "{connection}", "Connections of clients.")
def connections_open(server: Running) -> Iterable[Observation]:
    yield Observation(server.state["shutdown"].connections.open)


@figure("server.draining", "", "1 while the server waits for what still runs, before it ends.")
def draining(server: Running) -> Iterable[Observation]:
    yield Observation(int(server.state["shutdown"].draining))


@figure("server.drain.duration", "s", "Since when it does.")
def drain_duration(server: Running) -> Iterable[Observation]:
    if server.drains_since is not None:
        yield Observation(monotonic() - server.drains_since)


@figure("server.drain.limit", "s", "After how long it ends what still runs.")
def drain_limit(server: Running) -> Iterable[Observation]:
    yield Observation(server.state["shutdown"].drain_seconds)


@figure("event_loop.lag", "s", f"How late the event loop came, at worst in the last {LAG_SECONDS:g} s.")
def lag(server: Running) -> Iterable[Observation]:
    yield Observation(server.lag)


class Told:
    """Middleware that sees the server start and end, and sends then what it has not sent."""

    def __init__(self, app: ASGIApp, export: Export, of: App) -> None:
        self.app = app
        self.export = export
        self.of = of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                running.append(Running(scope["state"]))
            elif running:
                await asyncio.to_thread(self.export.flush)
                await running.pop().end()
            await send(message)

        try:
            self._open_port()
        except SystemExit as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await self.app(scope, receive, told)

    def _open_port(self) -> None:
        """Raises SystemExit if Prometheus can't be told what is so."""
        if self.export.exposition:
            if self.of.processes > 1:
                raise SystemExit(f"METRICS: {self.of.processes} processes share a port here, and {ALONE}")
            if port := self.export.settings.metrics_port:
                self.export.exposition.serve(self.export.settings.metrics_host, port)


def figures() -> Room:
    exports = export.set_up()

    async def metrics() -> Response:
        assert exports.exposition
        return Response(await run_sync(exports.exposition.text), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def join(app: App) -> None:
        if exports.is_there:
            app.outside.append(Middleware(Told, export=exports, of=app))
        if exports.exposition and not exports.settings.metrics_port:
            router = APIRouter()
            router.add_api_route("/metrics", metrics, include_in_schema=False)
            app.include_router(router)

    return join

"""What is so at this moment, as a room of the application: what runs, who reads, which jobs wait; and the route that
tells Prometheus.

No room knows of it. It looks at what they have opened when the server has started.
"""

import asyncio
from time import monotonic

from anyio.to_thread import run_sync
from fastapi import APIRouter, Response
from opentelemetry.metrics import Observation
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.application import App, Room
from app.otel import export
from app.otel.export import Export
from app.otel.now import Running, figure, running
from app.otel.prometheus import ALONE


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


class Told:
    """Middleware that is told when the server has started and when it ends. Then it sends what was not sent."""

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
                raise SystemExit(f"METRICS: {self.of.processes} processes share one port here, and {ALONE}")
            if port := self.export.settings.metrics_port:
                self.export.exposition.serve(self.export.settings.metrics_host, port)


@figure("chat.answers.running", "{answer}", "Answers that are made at this moment.")
async def answers_running(server: Running) -> list[Observation]:
    return [Observation(server.state["answers"].running)]


@figure("chat.streams.open", "{stream}", "Streams that are read at this moment.")
async def streams_open(server: Running) -> list[Observation]:
    return [Observation(server.state["places"].taken)]


@figure("jobs.count", "{job}", "Jobs that have not ended, by their status.")
async def jobs_count(server: Running) -> list[Observation]:
    backlog = await server.state["jobs"].backlog()
    return [Observation(getattr(backlog, status), {"status": status}) for status in ("queued", "running", "retrying")]


@figure("jobs.oldest_due.age", "s", "How long the job has waited that ought to have begun first.")
async def oldest_due(server: Running) -> list[Observation]:
    return [Observation((await server.state["jobs"].backlog()).oldest_seconds)]


@figure("jobs.broker.waiting", "{message}", "Messages that wait at the broker.")
async def broker_waiting(server: Running) -> list[Observation]:
    backend = server.state["backend"]
    here = hasattr(backend, "running")  # it runs jobs in this process, and has no broker
    return [] if here else [Observation(await backend.waiting())]


@figure("server.connections.open", "{connection}", "Connections of clients.")
async def connections_open(server: Running) -> list[Observation]:
    return [Observation(server.state["shutdown"].connections.open)]


@figure("server.draining", "", "1 while the server waits for what still runs, before it ends.")
async def draining(server: Running) -> list[Observation]:
    return [Observation(int(server.state["shutdown"].draining))]


@figure("server.drain.duration", "s", "How long it has waited for that.")
async def drain_duration(server: Running) -> list[Observation]:
    return [] if server.drains_since is None else [Observation(monotonic() - server.drains_since)]


@figure("server.drain.limit", "s", "After how long it ends what still runs.")
async def drain_limit(server: Running) -> list[Observation]:
    return [Observation(server.state["shutdown"].drain_seconds)]


@figure("event_loop.lag", "s", "How late the event loop came, at worst in the last minute.")
async def event_loop_lag(server: Running) -> list[Observation]:
    return [Observation(server.lag)]

"""Jobs, as a room of the application: their routes, and the relay that hands them over while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter

from app.admission import all_of
from app.application import App, Room
from app.jobs import routes
from app.jobs.backend import open_backend
from app.jobs.dependencies import State, checks
from app.jobs.queue import JobQueue
from app.jobs.relay import Relay
from app.jobs.settings import JobSettings
from app.jobs.store import Store


def jobs(settings: JobSettings | None = None) -> Room:
    """Without `settings` they are read from the environment."""
    settings = settings or JobSettings.read()

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[State]:
        wake = asyncio.Event()
        async with (
            Store.open(settings, app.processes) as store,
            open_backend(settings, store, app.shutdown, wake) as backend,
        ):
            queue = app.shared[JobQueue] = JobQueue(store, wake, all_of(app.limits))
            async with Relay(store, backend, wake, settings.job_lease_seconds).running():
                yield State(jobs=queue, backend=backend)
            app.shutdown.begin()  # for a server that ends without a signal: what still runs has the drain time

    def join(app: App) -> None:
        app.include_router(APIRouter(lifespan=lifespan))
        app.include_router(routes.router)
        app.checks.append(checks)

    return join

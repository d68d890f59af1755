"""Limits of what a caller may begin, as a room of the application. It has no routes: others ask it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter

from app.admission import Admit
from app.application import App, Room
from app.limits.settings import LimitSettings


def limits(settings: LimitSettings | None = None) -> Room:
    """Without `settings` they are read from the environment."""
    settings = settings or LimitSettings.read()

    def join(app: App) -> None:
        if not settings.requests_per_minute:
            return
        # Imported here, not above: the library takes 13 ms and 1.6 MB, and without a limit nobody needs it.
        from app.limits.counting import open_rate

        opened: list[Admit] = []  # the one of the lifespan that runs now

        @asynccontextmanager
        async def lifespan(app: App) -> AsyncIterator[None]:
            async with open_rate(settings, app.processes) as rate:
                opened[:] = [rate]
                yield

        async def admit(caller: str) -> None:
            await opened[0](caller)

        app.include_router(APIRouter(lifespan=lifespan))
        app.limits.append(admit)  # now, and not in the lifespan: wherever the room's line stands, others find it

    return join

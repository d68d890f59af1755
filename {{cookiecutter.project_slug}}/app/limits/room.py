"""Limits of what a caller may begin, as a room of the application. It comes before those that ask it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter

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

        @asynccontextmanager
        async def lifespan(app: App) -> AsyncIterator[None]:
            async with open_rate(settings, app.processes) as admit:
                app.limits.append(admit)
                try:
                    yield
                finally:
                    app.limits.remove(admit)

        app.include_router(APIRouter(lifespan=lifespan))

    return join

"""create_app() and its lifespan: the only wiring."""

import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi.routing import iter_route_contexts
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app import error_handlers, feedback, health, logs, page
from app.application import App, Room
from app.background import Background
from app.callers.guard import Callers, Guard, open_to_all
from app.callers.known import KnownCallers
from app.callers.settings import CallerSettings
from app.dependencies import State
from app.middleware import KnownHost, OneLength, RequestId
from app.rooms import all_rooms, telemetry_of_fastapi
from app.settings import EnvSettings, Settings, misspelt
from app.shutdown import Shutdown
from app.streams.places import Places
from app.streams.response import StreamLimits

log = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None, rooms: Sequence[Room] | None = None, callers: Callers | None = None
) -> App:
    """Builds the application, of these settings and rooms, for these callers.

    By default the environment's settings say all that, and all rooms join. Raises SystemExit when a setting is wrong.
    """
    settings = settings or Settings.read()
    logs.set_up(settings.log_level, settings.log_format)
    callers = callers or KnownCallers(CallerSettings.read())
    if settings.environment == "production" and not callers.required:
        raise SystemExit(f"{KnownCallers.SETTING}: must be set when ENVIRONMENT is production")

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[State]:
        # Again, for a server that sets up its logging after this module was imported, as `fastapi run` does.
        logs.set_up(settings.log_level, settings.log_format)
        if not callers.required:
            log.warning("%s is not set: whoever reaches this server may use it", KnownCallers.SETTING)
        app.shutdown = Shutdown(settings.drain_seconds)
        app.places = Places(app.most_streams, settings.max_streams_per_caller)
        with app.shutdown.on_signals():
            yield State(
                settings=settings,
                shutdown=app.shutdown,
                stream_limits=StreamLimits(
                    settings.heartbeat_seconds, settings.send_timeout_seconds, settings.max_stream_seconds
                ),
                places=app.places,
                background=Background(app.shutdown),
            )

    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        # Client libraries send headers of their own. There are no cookies, so no header lets in a site without a token.
        allow_headers=["*"],
        expose_headers=["Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID", "X-Stream-ID"],
    )
    guard = Middleware(KnownHost, names=settings.allowed_hosts, setting=KnownCallers.SETTING)
    if callers.required:
        guard = Middleware(Guard, callers=callers)
    app = App(
        settings,
        title=settings.app_name,
        lifespan=lifespan,
        telemetry=telemetry_of_fastapi(),
        max_body_size=settings.max_body_bytes,
        outside=[Middleware(RequestId), Middleware(OneLength), *([cors] if settings.cors_origins else []), guard],
        closed=callers.required,
    )
    if callers.required:
        app.checks.append(lambda request: callers.check())
    if callers.required and settings.environment != "production":
        for route in iter_route_contexts(app.routes):  # by now those of the docs: a browser shows them without a token
            open_to_all(route.endpoint)
    error_handlers.install(app)
    for join in all_rooms() if rooms is None else rooms:
        join(app)
    app.include_router(feedback.router)
    app.include_router(health.router)
    page.install(app)
    for name, meant in misspelt().items():
        log.warning("%s has %s, which is no setting; %s is", EnvSettings.model_config["env_file"], name, meant)
    return app


app = create_app()
gc.freeze()  # what is loaded by now stays: to look through it took each full collection 0.1 s

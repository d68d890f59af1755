"""create_app() and its lifespan: the only wiring."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app import error_handlers, feedback, health, logs, page
from app.background import Background
from app.chat import front_ends, providers
from app.chat.providers.base import Provider
from app.chat.providers.settings import ProviderSettings
from app.dependencies import State
from app.jobs import backend as jobs_backend
from app.jobs import routes as jobs_routes
from app.jobs.settings import JobSettings
from app.middleware import App, BearerKey, RequestId
from app.settings import Settings, misspelt
from app.shutdown import Shutdown
from app.streams.response import StreamLimits

log = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None,
    provider: Provider | None = None,
    job_settings: JobSettings | None = None,
) -> FastAPI:
    """What is not given is read from the environment."""
    settings = settings or Settings.read()
    logs.set_up(settings.log_level)
    for name, meant in misspelt().items():
        log.warning(".env has %s, which is no setting; %s is", name, meant)
    open_model: Callable[[], AbstractAsyncContextManager[Provider]]
    open_model = (lambda: nullcontext(provider)) if provider else partial(providers.open, ProviderSettings.read())
    job_settings = job_settings or JobSettings.read()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        if not settings.api_key.get_secret_value():
            log.warning("API_KEY is empty: whoever reaches this server may use it")
        shutdown = Shutdown(settings.drain_seconds)
        async with AsyncExitStack() as stack:
            stack.enter_context(shutdown.on_signals())
            model = await stack.enter_async_context(open_model())
            jobs = await stack.enter_async_context(jobs_backend.open(job_settings, shutdown))
            stack.callback(shutdown.begin)  # for a server that ends us without a signal
            yield State(
                settings=settings,
                shutdown=shutdown,
                stream_limits=StreamLimits(settings.heartbeat_seconds, settings.send_timeout_seconds),
                provider=model,
                background=Background(shutdown),
                jobs=jobs,
            )

    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        # Clients' libraries send headers of their own; without cookies, none of them lets a site in.
        allow_headers=["*"],
        expose_headers=["Location", "X-Request-ID", "X-Stream-ID"],
    )
    app = App(
        title=settings.app_name,
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        outer=[  # the first is the outermost
            Middleware(RequestId),
            *([cors] if settings.cors_origins else []),
            Middleware(BearerKey, key=settings.api_key.get_secret_value()),
        ],
    )
    error_handlers.install(app)
    front_ends.install(app)
    app.include_router(feedback.router)
    app.include_router(jobs_routes.router)
    app.include_router(health.router)
    page.install(app)
    return app


app = create_app()

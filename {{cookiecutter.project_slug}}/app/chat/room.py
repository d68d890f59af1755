"""The chat, as a room of the application: the model that answers, and the routes that ask it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial

from fastapi import APIRouter

from app.application import App, Room
from app.chat import front_ends
from app.chat.dependencies import State
from app.chat.providers import open_provider
from app.chat.providers.base import Provider
from app.chat.providers.settings import ProviderSettings


def chat(provider: Provider | None = None) -> Room:
    """`provider` is the model that answers. By default the settings say which it is."""
    open_model: Callable[[], AbstractAsyncContextManager[Provider]]
    open_model = (lambda: nullcontext(provider)) if provider else partial(open_provider, ProviderSettings.read())

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[State]:
        async with open_model() as model:
            yield State(provider=model)

    def join(app: App) -> None:
        app.include_router(APIRouter(lifespan=lifespan))
        front_ends.install(app)

    return join

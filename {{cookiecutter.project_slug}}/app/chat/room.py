"""The chat, as a room of the application: the model that answers, and the routes that ask it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from fastapi import APIRouter

from app.admission import all_of
from app.application import App, Room
from app.chat import front_ends
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_store import AnswerStore
from app.chat.answers import Answers
from app.chat.dependencies import State, checks
from app.chat.providers import open_provider
from app.chat.providers.base import Provider
from app.chat.providers.settings import ProviderSettings


def chat(provider: Provider | None = None, settings: AnswerSettings | None = None) -> Room:
    """`provider` is the model that answers. What is not given is read from the environment."""
    settings = settings or AnswerSettings.read()
    open_model: Callable[[Mapping[type, Any]], AbstractAsyncContextManager[Provider]]
    open_model = (lambda _: nullcontext(provider)) if provider else partial(open_provider, ProviderSettings.read())

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[State]:
        async with open_model(app.shared) as model, AnswerStore.open(settings, app.processes) as store:
            limits = [app.places.admit, *app.limits] if app.places.limits_callers else app.limits
            answers = Answers(store, model, app.settings, settings, app.shutdown, all_of(limits))
            with app.shutdown.at_limit(answers.drain):
                try:
                    yield State(provider=model, answers=answers)
                finally:
                    app.shutdown.begin()  # for a server that ends without a signal: what still runs has the drain time
                    await answers.close()

    def join(app: App) -> None:
        app.include_router(APIRouter(lifespan=lifespan))
        app.checks.append(checks)
        front_ends.install(app)

    return join

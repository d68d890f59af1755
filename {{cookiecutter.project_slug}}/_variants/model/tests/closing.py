"""When a model's service sees that nobody waits for its answer any more: what it goes on making is paid for."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from app.chat.answer_settings import AnswerSettings
from app.chat.providers.base import Provider
from app.chat.room import chat
from app.main import create_app
from app.settings import Settings
from tests.asgi import exchange
from tests.callers.knowing import ANYBODY
from tests.sse import parse
from tests.upstream import Upstream

NOTICED_SECONDS = 4.0  # what a busy machine may need, and less than the 5 s after which a model is left behind
WHY = ["the reader leaves", "the time is up", "the server stops"]


async def sees_it_closed(
    why: str,
    asked: Callable[[], AbstractAsyncContextManager[tuple[Provider, Upstream]]],
    settings: Settings,
    answer_settings: Callable[..., AnswerSettings],
) -> None:
    """Asks the provider, whose service comes to a wait, and ends that. Soon the service sees its connection closed."""
    limit = 1.0 if why == "the time is up" else 60.0
    try:
        await _within(limit, why, asked, settings, answer_settings)
    except TimeoutError:  # on a busy machine the time may be up before the service has come to its wait
        await _within(15 * limit, why, asked, settings, answer_settings)


async def _within(
    limit: float,
    why: str,
    asked: Callable[[], AbstractAsyncContextManager[tuple[Provider, Upstream]]],
    settings: Settings,
    answer_settings: Callable[..., AnswerSettings],
) -> None:
    limited = settings.model_copy(update={"model_timeout_seconds": limit, "drain_seconds": 0.1})
    async with asked() as (provider, service):
        app = create_app(limited, [chat(provider, answer_settings(answer_grace_seconds=0))], ANYBODY)
        async with (
            app.router.lifespan_context(app) as state,
            exchange(app, "/chat/stream", body={"question": "Hi"}, **state) as stream,  # type: ignore[arg-type]
        ):
            await asyncio.wait_for(service.waiting.wait(), 2 * limit)
            if why == "the reader leaves":
                stream.gone.set()
            if why == "the server stops":
                state["shutdown"].begin()  # type: ignore[index]
            async with asyncio.timeout(NOTICED_SECONDS + (limit if why == "the time is up" else 0)):
                await service.left.wait()
            if why != "the reader leaves":
                *_, done = parse(await stream.rest())
                assert done.data["reason"] == ("timeout" if why == "the time is up" else "shutdown")

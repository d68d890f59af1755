"""The trace of a request goes on to the model's service. Its answer does not matter: it refuses."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app import telemetry
from app.chat.answer_settings import AnswerSettings
from app.chat.providers import open_provider
from app.chat.providers.base import Asker, Message, ModelError, Provider
from app.chat.providers.settings import ProviderSettings
from app.chat.room import chat
from app.main import create_app
from app.settings import Settings
from tests.asgi import exchange
from tests.callers.knowing import ANYBODY
from tests.upstream import Answer, Upstream, upstream

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
QUESTION, ASKER = [Message(role="user", content="Hi")], Asker("anyone", "key")
LIMITED = Answer.problem(429, {"error": {"message": "slow down"}}, **{"Retry-After-Ms": "1"})
REFUSED = Answer.problem(404, {"error": {"message": "no such model"}})


@asynccontextmanager
async def asked(*answers: Answer) -> AsyncIterator[tuple[Provider, Upstream]]:
    vendor = ProviderSettings.model_fields["model_provider"].default
    async with upstream(*answers) as service:
        values = {"model_provider": vendor, f"{vendor}_api_key": "sk-hidden", f"{vendor}_base_url": f"{service.url}/v1"}
        async with open_provider(ProviderSettings(_env_file=None, **values), {}) as provider:
            yield provider, service


async def test_it_goes_on_to_the_service_with_each_try() -> None:
    telemetry.join_trace(TRACEPARENT)
    async with asked(LIMITED, REFUSED) as (provider, service):
        with pytest.raises(ModelError):
            await anext(provider.stream(QUESTION, ASKER))
    telemetry.join_trace("")
    assert [request.headers["traceparent"] for request in service.requests] == [TRACEPARENT] * 2


async def test_without_a_trace_the_service_is_told_of_none() -> None:
    async with asked(REFUSED) as (provider, service):
        with pytest.raises(ModelError):
            await anext(provider.stream(QUESTION, ASKER))
    assert "traceparent" not in service.requests[0].headers


async def test_an_answer_is_of_the_trace_of_the_request_that_asked(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    async with asked(REFUSED, REFUSED) as (provider, service):
        app = create_app(settings, [chat(provider, answer_settings())], ANYBODY)
        async with app.router.lifespan_context(app) as state:
            for headers in ({"traceparent": TRACEPARENT}, {}):
                body = {"question": "Hi"}
                async with exchange(app, "/chat/stream", body=body, headers=headers, **state) as stream:  # type: ignore[arg-type]
                    await stream.rest()
    first, second = (request.headers.get("traceparent", "") for request in service.requests)
    assert first.split("-")[1] == TRACEPARENT.split("-")[1]
    assert second.split("-")[1:2] != first.split("-")[1:2]

"""How many streams may be open: real statuses, before a stream begins."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app.chat.providers.base import Provider
from app.dependencies import OneStream, OneStreamAgain
from app.main import app
from app.settings import Settings
from app.streams.response import EventStream
from tests.asgi import Exchange, exchange
from tests.providers import ScriptedProvider

Build = Callable[[Settings, Provider], FastAPI]
HI = {"question": "Hi"}
STREAM = "text/event-stream"


@pytest.fixture
def provider() -> ScriptedProvider:
    """Silent after its first word."""
    return ScriptedProvider("a", 60.0)


class Visited:
    """The application, for requests that overlap."""

    def __init__(self, app: FastAPI, state: dict[str, Any]) -> None:
        self.app = app
        self.state = state

    @asynccontextmanager
    async def open(self, **headers: str) -> AsyncIterator[Exchange]:
        """A stream that stays open."""
        async with exchange(self.app, "/chat/stream", body=HI, headers=headers, **self.state) as stream:
            while stream.status == 200 and "token" not in await stream.text():
                pass
            yield stream

    async def status(self, path: str, **request: Any) -> int:
        async with exchange(self.app, path, **request, **self.state) as response:
            return response.status


@pytest.fixture
async def limited(
    settings: Settings, provider: ScriptedProvider, build: Build, request: pytest.FixtureRequest
) -> AsyncIterator[Visited]:
    app = build(settings.model_copy(update=request.param), provider)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        yield Visited(app, dict(state))


def test_each_route_that_answers_with_a_stream_holds_a_place_for_it() -> None:
    takes = {OneStream.dependency, OneStreamAgain.dependency}
    documented = {
        (path, method.upper())
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        if STREAM in operation["responses"].get("200", {}).get("content", {})
    }
    found = set()
    for route in iter_route_contexts(app.routes):
        kind = getattr(route.endpoint, "__annotations__", {}).get("return")
        key = (route.path_format, *(route.methods or ()))
        if key in documented or (isinstance(kind, type) and issubclass(kind, EventStream)):
            assert takes & {each.call for each in route.dependant.dependencies}, f"{key} needs OneStream"
            found.add(key)
    assert documented <= found
    assert len(found) >= 3


@pytest.mark.parametrize("limited", [{"max_streams": 1}], indirect=True)
async def test_beyond_max_streams_a_stream_is_a_503_and_all_else_is_answered(
    limited: Visited, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with limited.open() as stream:
        path = stream.headers["location"]
        async with exchange(limited.app, path, **limited.state) as refused:
            assert (refused.status, refused.headers["retry-after"]) == (503, "2")
            assert json.loads(await refused.text()) == {"detail": "too many streams at once"}
        assert [vars(each)["limit"] for each in caplog.records if each.message == "refused"] == ["all streams"]
        assert [await limited.status(path) for path in ("/health", "/ready", "/")] == [200] * 3
        assert await limited.status(path, method="DELETE") == 202
        await stream.rest()
    assert await limited.status(path) == 200


@pytest.mark.parametrize("limited", [{"max_streams_per_caller": 1}], indirect=True)
async def test_beyond_its_own_limit_a_caller_is_refused_before_the_model_is_asked(
    limited: Visited, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with limited.open() as stream:
        async with limited.open() as refused:
            assert (refused.status, refused.headers["ratelimit"]) == (429, '"streams";r=0;t=2')
            words = "too many streams at once: try again when one has ended"
            assert json.loads(await refused.text()) == {"detail": words}
        (record,) = [each for each in caplog.records if each.message == "refused"]
        assert vars(record)["limit"] == "streams"
        assert await limited.status("/health") == 200
        assert await limited.status(stream.headers["location"], method="DELETE") == 202
    assert len(provider.asked) == 1


@pytest.mark.parametrize("limited", [{"max_streams_per_caller": 1}], indirect=True)
async def test_who_repeats_a_request_or_comes_back_is_not_refused_for_the_connection_it_has_lost(
    limited: Visited, provider: ScriptedProvider
) -> None:
    async with limited.open(**{"Idempotency-Key": "k-1"}) as first:
        async with limited.open(**{"Idempotency-Key": "k-1"}) as joined:
            assert joined.headers["x-stream-id"] == first.headers["x-stream-id"]
            async with limited.open(**{"Idempotency-Key": "k-1"}) as third:
                assert third.status == 429  # at twice the limit
        assert await limited.status(first.headers["location"]) == 200
        async with limited.open(**{"Idempotency-Key": "k-2"}) as other:
            assert (other.status, len(provider.asked)) == (429, 1)
    async with limited.open() as stream:
        assert stream.status == 200

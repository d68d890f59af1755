"""What OpenAI's clients get where their streams are limited, in number or in time."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from app.chat.providers.base import Provider
from app.settings import Settings
from tests.asgi import exchange
from tests.chat.test_openai_api import HI, PATH, STREAM, chunks
from tests.providers import ScriptedProvider

Build = Callable[[Settings, Provider], FastAPI]


@pytest.mark.parametrize("body", [HI, STREAM])
@pytest.mark.parametrize(("setting", "status"), [("max_streams_per_caller", 429), ("max_streams", 503)])
async def test_beyond_a_limit_both_kinds_of_answers_are_refused_in_openais_shape(
    settings: Settings, build: Build, body: dict[str, Any], setting: str, status: int
) -> None:
    """A whole answer holds a connection too."""
    provider = ScriptedProvider("a", 60.0)
    app = build(settings.model_copy(update={setting: 1}), provider)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, PATH, body=STREAM, **state) as first:
            while '"a"' not in await first.text():
                pass
            async with exchange(app, PATH, body=body, **state) as refused:
                assert (refused.status, refused.headers["retry-after"]) == (status, "2")
                assert "too many streams at once" in json.loads(await refused.text())["error"]["message"]
            async with exchange(app, "/health", **state) as health:
                assert health.status == 200
    assert len(provider.asked) == 1


async def test_a_stream_that_has_lasted_too_long_ends_in_an_error_that_may_be_retried(
    settings: Settings, build: Build
) -> None:
    app = build(settings.model_copy(update={"max_stream_seconds": 0.05}), ScriptedProvider("a", 60.0))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with exchange(app, PATH, body=STREAM, **state) as stream:
            assert chunks(await stream.rest())[-1]["error"]["code"] == "server_shutdown"

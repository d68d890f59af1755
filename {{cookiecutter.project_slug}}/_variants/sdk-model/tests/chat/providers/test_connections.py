"""How many connections to the model's service there may be."""

import asyncio
from functools import partial
from importlib import import_module

import httpx2
import pytest

from app.chat.providers.settings import ProviderSettings
from tests.chat.providers.test_trace import ASKER, QUESTION, asked
from tests.upstream import Answer

VENDOR = ProviderSettings.model_fields["model_provider"].default
WAIT_SECONDS = 10  # only a broken test waits that long


async def test_each_answer_that_may_run_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's client has a limit of its own. It is made small here, for to reach a thousand takes long."""
    client = partial(import_module(VENDOR).DefaultAsyncHttpxClient, limits=httpx2.Limits(max_connections=1))
    monkeypatch.setattr(f"app.chat.providers.{VENDOR}.DefaultAsyncHttpxClient", client)
    never = asyncio.Event()
    async with asked(*[Answer([never])] * 3) as (provider, service):
        asking = [asyncio.ensure_future(anext(provider.stream(QUESTION, ASKER))) for _ in range(3)]
        async with asyncio.timeout(WAIT_SECONDS):
            while len(service.requests) < len(asking):
                await asyncio.sleep(0.01)
        for each in asking:
            each.cancel()
        await asyncio.wait(asking)

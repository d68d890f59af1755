"""The models that can answer."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.chat.providers.base import Provider
from app.chat.providers.echo import Echo
from app.chat.providers.settings import ProviderSettings


@asynccontextmanager
async def open_provider(settings: ProviderSettings, shared: Mapping[type, Any]) -> AsyncIterator[Provider]:
    """`shared` is what other rooms have opened, for a model that uses it."""
    match settings.model_provider:
        case "echo":
            yield Echo(settings.echo_token_seconds)
        case "openai":
            # Imported here, not above: its SDK takes most of a second, and echo does not need it.
            from app.chat.providers.openai import OpenAI

            async with OpenAI(settings) as provider:
                yield provider

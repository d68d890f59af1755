"""The models that can answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.chat.providers.base import Provider
from app.chat.providers.echo import Echo
from app.chat.providers.settings import ProviderSettings


@asynccontextmanager
async def open_provider(settings: ProviderSettings) -> AsyncIterator[Provider]:
    match settings.model_provider:
        case "echo":
            yield Echo(settings.echo_token_seconds)
        case "anthropic":
            # Imported here, not above: its SDK takes most of a second, and echo does not need it.
            from app.chat.providers.anthropic import Anthropic

            async with Anthropic(settings) as provider:
                yield provider

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

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
        case "pydantic-ai":
            # Imported here, not above: Pydantic AI takes more than a second, and echo does not need it.
            from app.chat.providers.known_models import known_model
            from app.chat.providers.pydantic_ai import PydanticAI

            async with known_model(settings.model_name) as model:
                yield PydanticAI(settings, model, shared)

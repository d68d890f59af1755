"""The models that can answer."""

from app.chat.providers.base import Provider
from app.chat.providers.echo import Echo
from app.chat.providers.settings import ProviderSettings


def build(settings: ProviderSettings) -> Provider:
    match settings.model_provider:
        case "echo":
            return Echo(settings.echo_token_seconds)

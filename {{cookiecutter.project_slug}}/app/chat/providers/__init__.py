"""The models that can answer."""

from app.chat.providers.base import Provider
from app.chat.providers.echo import Echo
from app.chat.providers.settings import ProviderSettings


def build(settings: ProviderSettings) -> Provider:
    return Echo(settings.echo_token_seconds)

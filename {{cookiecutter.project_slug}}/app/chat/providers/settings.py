"""Which model answers, and what it needs."""

from typing import Literal

from pydantic import Field

from app.settings import EnvSettings


class ProviderSettings(EnvSettings):
    model_provider: Literal["echo"] = "echo"
    echo_token_seconds: float = Field(0.05, ge=0, le=3600)

"""Which model answers, and what it needs."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, HttpUrl, JsonValue, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from app.chat.providers.environment import check_environment
from app.chat.providers.extra import parse_extra
from app.settings import EnvSettings, Key

Unset = BeforeValidator(lambda value: None if value == "" else value)


class ProviderSettings(EnvSettings):
    model_provider: Literal["echo", "anthropic"] = "anthropic"
    echo_token_seconds: float = Field(0.05, ge=0, le=3600)

    anthropic_api_key: Key = SecretStr("")
    anthropic_base_url: HttpUrl = HttpUrl("https://api.anthropic.com")
    model_name: str = Field("claude-haiku-4-5", min_length=1, max_length=500)
    system_prompt: str = Field("", max_length=1_000_000)
    model_max_tokens: int = Field(4096, gt=0, le=10_000_000)
    model_temperature: Annotated[float | None, Unset] = Field(None, ge=0, le=1)
    model_connect_seconds: float = Field(5, gt=0, le=3600)
    model_max_retries: int = Field(2, ge=0, le=100)
    extra: Annotated[dict[str, JsonValue], NoDecode, BeforeValidator(parse_extra)] = Field({}, alias="MODEL_EXTRA")

    @field_validator("anthropic_base_url")
    @classmethod
    def _takes_a_path(cls, url: HttpUrl) -> HttpUrl:
        """The SDK adds the path of each request to it."""
        if url.username or url.password or url.query is not None or url.fragment is not None:
            raise ValueError("must be as short as http://127.0.0.1:4000, without a user, ? or #")
        return url

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.model_provider == "anthropic" and not self.anthropic_api_key.get_secret_value():
            raise ValueError("ANTHROPIC_API_KEY: must be set; MODEL_PROVIDER=echo runs without one")
        return self

    @model_validator(mode="after")
    def _environment_can_be_used(self) -> Self:
        if self.model_provider == "anthropic":
            check_environment()
        return self

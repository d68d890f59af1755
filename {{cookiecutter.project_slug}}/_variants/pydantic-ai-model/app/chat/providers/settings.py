"""Which model answers, and what it needs."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, HttpUrl, JsonValue, SecretStr, model_validator
from pydantic_settings import NoDecode

from app.chat.providers.extra import parse_extra
from app.settings import EnvSettings, Key

Unset = BeforeValidator(lambda value: None if value == "" else value)


class ProviderSettings(EnvSettings):
    model_provider: Literal["echo", "pydantic-ai"] = "pydantic-ai"
    echo_token_seconds: float = Field(0.05, ge=0, le=3600)

    # Pydantic AI reads these from the environment, as it does those of other services. Here they are looked at.
    openai_api_key: Key = SecretStr("")
    openai_base_url: Annotated[HttpUrl | None, Unset] = None
    model_name: str = Field("openai:gpt-5.4-mini", min_length=1, max_length=500)
    system_prompt: str = Field("", max_length=1_000_000)
    model_max_rounds: int = Field(10, gt=0, le=1000)
    model_max_tool_calls: int = Field(100, gt=0, le=10_000)
    tool_timeout_seconds: float = Field(30, gt=0, le=3600)
    model_max_tokens: int = Field(4096, gt=0, le=10_000_000)
    model_temperature: Annotated[float | None, Unset] = Field(None, ge=0, le=2)
    model_max_retries: int = Field(2, ge=0, le=100)
    extra: Annotated[dict[str, JsonValue], NoDecode, BeforeValidator(parse_extra)] = Field({}, alias="MODEL_EXTRA")

    @model_validator(mode="after")
    def _model_is_known(self) -> Self:
        if self.model_provider == "pydantic-ai":
            # Imported here, not above: Pydantic AI takes more than a second, and echo does not need it.
            from app.chat.providers.known_models import known_model

            known_model(self.model_name)
        return self

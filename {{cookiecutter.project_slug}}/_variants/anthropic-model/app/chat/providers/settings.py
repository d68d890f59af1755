"""Which model answers, and what it needs."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, HttpUrl, JsonValue, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from app.chat.providers.environment import check_environment
from app.chat.providers.extra import parse_extra
from app.settings import EnvSettings, Key

Unset = BeforeValidator(lambda value: None if value == "" else value)
LEAST_THINKING_TOKENS = 1024
LEAST_TOP_P = 0.95  # of a model that thinks


class ProviderSettings(EnvSettings):
    model_provider: Literal["echo", "anthropic"] = "anthropic"
    echo_token_seconds: float = Field(0.05, ge=0, le=3600)

    anthropic_api_key: Key = SecretStr("")
    anthropic_base_url: HttpUrl = HttpUrl("https://api.anthropic.com")
    model_name: str = Field("claude-haiku-4-5", min_length=1, max_length=500)
    system_prompt: str = Field("", max_length=1_000_000)
    model_max_tokens: int = Field(4096, gt=0, le=10_000_000)
    model_thinking_tokens: int = Field(0, ge=0, le=10_000_000)  # with 0 it is not asked to think
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
    def _can_think(self) -> Self:
        """As the API demands, which would refuse each question (its documentation, "Extended thinking")."""
        if self.model_provider != "anthropic" or not self.model_thinking_tokens:
            return self
        it_thinks = "where MODEL_THINKING_TOKENS is set"
        if not LEAST_THINKING_TOKENS <= self.model_thinking_tokens < self.model_max_tokens:
            bounds = f"{LEAST_THINKING_TOKENS} or more, and less than MODEL_MAX_TOKENS"
            raise ValueError(f"MODEL_THINKING_TOKENS: must be 0, or {bounds}")
        if self.model_temperature not in (None, 1):
            raise ValueError(f"MODEL_TEMPERATURE: must be empty, or 1, {it_thinks}")
        if odd := self.extra.keys() & {"temperature", "thinking", "top_k"}:
            raise ValueError(f"MODEL_EXTRA: must be without {', '.join(sorted(odd))} {it_thinks}")
        top_p = self.extra.get("top_p", 1)
        if not isinstance(top_p, int | float) or not LEAST_TOP_P <= top_p <= 1:
            raise ValueError(f"MODEL_EXTRA: top_p must be {LEAST_TOP_P} to 1 {it_thinks}")
        return self

    @model_validator(mode="after")
    def _environment_can_be_used(self) -> Self:
        if self.model_provider == "anthropic":
            check_environment()
        return self

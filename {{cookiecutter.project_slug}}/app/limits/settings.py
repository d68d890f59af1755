"""The settings of limits."""

from pydantic import Field

from app.settings import EnvSettings


class LimitSettings(EnvSettings):
    requests_per_minute: int = Field(0, ge=0, le=1_000_000)  # with 0 there is no such limit

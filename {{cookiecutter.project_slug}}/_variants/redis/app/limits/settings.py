"""The settings of limits, and of the Redis that counts for all processes."""

from pydantic import Field

from app.redis_client import RedisSettings
from app.settings import EnvSettings


class LimitSettings(RedisSettings, EnvSettings):
    requests_per_minute: int = Field(0, ge=0, le=1_000_000)  # with 0 there is no such limit

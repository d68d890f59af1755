"""What jobs need."""

from pydantic import Field, RedisDsn

from app.settings import PROJECT, EnvSettings


class JobSettings(EnvSettings):
    job_max_attempts: int = Field(3, ge=1)
    job_timeout_seconds: float = Field(300, gt=0)
    job_retention_seconds: int = Field(86_400, gt=0)

    redis_url: RedisDsn = RedisDsn("redis://127.0.0.1:6379/0")
    queue_name: str = Field(PROJECT, min_length=1)

"""The settings of jobs."""

from pydantic import Field

from app.redis_client import RedisSettings
from app.settings import EnvSettings


class JobSettings(RedisSettings, EnvSettings):
    job_max_attempts: int = Field(3, ge=1)
    job_timeout_seconds: float = Field(300, gt=0)
    # At least 2, because a worker renews the lease five times in that time, and Redis may take a second to answer. At
    # most an hour, because nobody looks at a lost job before its lease has run out.
    job_lease_seconds: float = Field(15, ge=2, le=3600)
    job_retention_seconds: int = Field(86_400, gt=0)

"""The settings of jobs."""

from pydantic import Field

from app.redis_client import RedisSettings
from app.settings import EnvSettings

MAX_ATTEMPTS = 1000
MAX_TIMEOUT_SECONDS = 7 * 86_400.0  # what every queue library can count, in milliseconds too


class JobSettings(RedisSettings, EnvSettings):
    job_max_attempts: int = Field(3, ge=1, le=MAX_ATTEMPTS)
    job_timeout_seconds: float = Field(300, gt=0, le=MAX_TIMEOUT_SECONDS)
    # At least 2, because a worker renews the lease five times in that time, and Redis may take a second to answer. At
    # most an hour, because nobody looks at a lost job before its lease has run out.
    job_lease_seconds: float = Field(15, ge=2, le=3600)
    job_retention_seconds: int = Field(86_400, gt=0, le=366 * 86_400)
    job_max_result_bytes: int = Field(1024 * 1024, gt=0, le=16 * 1024 * 1024)  # it is parsed on the event loop
    job_unknown_task_seconds: float = Field(3600, ge=0, le=7 * 86_400)

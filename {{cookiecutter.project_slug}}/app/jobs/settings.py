"""The settings of jobs."""

from pydantic import Field

from app.settings import EnvSettings


class JobSettings(EnvSettings):
    job_max_attempts: int = Field(3, ge=1)
    job_timeout_seconds: float = Field(300, gt=0)
    job_lease_seconds: float = Field(15, ge=2, le=3600)  # a running job renews it five times in that time
    job_retention_seconds: int = Field(86_400, gt=0)

"""The settings of jobs."""

import re

from pydantic import Field, RedisDsn, field_validator

from app.settings import PROJECT, EnvSettings


class JobSettings(EnvSettings):
    job_max_attempts: int = Field(3, ge=1)
    job_timeout_seconds: float = Field(300, gt=0)
    # At least 2, because a worker renews the lease five times in that time, and Redis may take a second to answer. At
    # most an hour, because nobody looks at a lost job before its lease has run out.
    job_lease_seconds: float = Field(15, ge=2, le=3600)
    job_retention_seconds: int = Field(86_400, gt=0)

    redis_url: RedisDsn = RedisDsn("redis://127.0.0.1:6379/0")
    queue_name: str = PROJECT

    @field_validator("queue_name")
    @classmethod
    def _is_one_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z_][\w.-]*", name, re.ASCII | re.IGNORECASE):
            raise ValueError("a letter and then letters, digits, . _ -; a worker listens to exactly one queue")
        return name

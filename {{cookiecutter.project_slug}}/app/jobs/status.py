"""What is said of a job: its status, its progress, its error, and that it is not yours."""

from typing import Literal

from pydantic import BaseModel, Field

JobStatus = Literal["queued", "running", "retrying", "succeeded", "failed", "cancelled"]
ENDED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})


class NotYours(Exception):
    """Somebody else runs the job, or nobody should: it is not due, was cancelled or has ended."""


class Progress(BaseModel, frozen=True, extra="allow"):
    fraction: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    message: str = ""


class JobError(BaseModel, frozen=True, extra="allow"):
    """For the caller: `message` never carries the text of an exception. The log has that, under `request_id`."""

    code: str = Field(description="job_failed, job_timeout, job_refused, job_result or attempts_lost")
    message: str
    request_id: str

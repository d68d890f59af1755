"""What is said of a job: its status, its progress, its error, and that it is not yours."""

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field

from app.errors import NotFound

JobStatus = Literal["queued", "running", "retrying", "succeeded", "failed", "cancelled"]
ENDED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})
Time = Annotated[float, Field(ge=0, lt=253_402_300_800, allow_inf_nan=False)]  # to the end of the year 9999
Due = Annotated[float, Field(allow_inf_nan=False)]  # nobody is shown it as a date, so it has no bounds
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]


class NoSuchJob(NotFound):
    """No such job of this caller. Its words are always the same: whoever asks for the id of another caller's job learns
    nothing, not even that there is one."""

    def __init__(self) -> None:
        super().__init__("there is no such job")


class NotYours(Exception):
    """Somebody else runs the job, or nobody should: it is not due, was cancelled or has ended."""


class Cancelled(NotYours):
    """The job was cancelled while its holder ran it."""


class Backlog(NamedTuple):
    """How many jobs have not ended, by their status, and for how many seconds the one has waited that ought to have
    begun first. A job that is for later does not wait yet."""

    queued: int
    running: int
    retrying: int
    oldest_seconds: float


class Progress(BaseModel, frozen=True, extra="allow"):
    fraction: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    message: str = ""


class JobError(BaseModel, frozen=True, extra="allow"):
    """For the caller: `message` never carries the text of an exception. The log has that, under `request_id`."""

    code: str = Field(description="job_failed, job_timeout, job_refused, job_result or attempts_lost")
    message: str
    request_id: str

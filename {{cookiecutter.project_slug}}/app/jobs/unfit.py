"""Jobs that this version of the service can't run. During a deploy two versions run side by side, so such a job is
given back: the other one may be able to run it."""

import logging
import time

from app.jobs.lease import Lease
from app.jobs.settings import JobSettings
from app.jobs.status import JobError
from app.telemetry import attempt_ended

TELL_SECONDS = 60.0  # between two lines about jobs of the same task that this version can't run

_told: dict[str, float] = {}  # when there was such a line last, by the task's name


class Refused(Exception):
    """This version of the service can't run the job. Its text is shown to the caller."""


async def give_back(lease: Lease, error: Refused, settings: JobSettings) -> None:
    """Raises `error` if the job was given back for long enough. Raises NotYours when the lease was lost."""
    told = JobError(code="job_refused", message=str(error), request_id=lease.job.request_id)
    waits = await lease.give_back(told, settings.job_unknown_task_seconds)
    job = lease.job
    if job.ended:
        attempt_ended(logging.ERROR, f"job refused: {error}", lease.told("failed"))
        raise error
    # `_told` limits the lines of a process that runs many jobs, and `waits` those where each job has a process.
    level = logging.DEBUG
    if time.monotonic() - _told.get(job.task, -TELL_SECONDS) >= TELL_SECONDS and not 0 < waits < TELL_SECONDS:
        _told[job.task] = time.monotonic()
        level = logging.WARNING
    said = f"job given back, as others of its task may be, for {waits:.0f} s so far: {error}"
    attempt_ended(level, said, lease.told("given_back"))

"""One attempt at a job: take the lease and count the attempt, run the body, write its result and its end together."""

import asyncio
import logging

from pydantic import ValidationError

from app import telemetry
from app.contain import contained, leave_behind
from app.errors import NotFound
from app.jobs import tasks  # noqa: F401 - they register themselves
from app.jobs.definition import TASKS, JobContext, limits
from app.jobs.lease import Lease, take
from app.jobs.result import BadResult, to_text
from app.jobs.settings import JobSettings
from app.jobs.status import Cancelled, JobError, NotYours
from app.jobs.store import Store
from app.jobs.unfit import Refused, give_back
from app.logs import caller, request_id
from app.telemetry import attempt_ended

log = logging.getLogger(__name__)
CLEANUP_SECONDS = 5.0
BACKOFF_SECONDS = (1.0, 5.0, 30.0)  # after the first failure, the second, and each one behind it


class OutOfTime(Exception):
    """The body has not ended within the job's time limit."""


async def run(store: Store, job_id: str, settings: JobSettings) -> None:
    """Makes one attempt at the job. Does nothing when the job is not to be run now: another attempt holds it, or it was
    cancelled, has ended, or is not known.

    Raises what the last attempt raised, after writing it down, so that a queue library shows the job as failed too.
    """
    try:
        lease, payload = await take(store, job_id, settings)
    except NotFound:
        log.info("job %s is not known (any more)", job_id)
        return
    except NotYours:
        log.info("job %s is not ours: held by another, not due, cancelled or ended", job_id)
        return
    job = lease.job
    request_id.set(job.request_id)
    caller.set(job.caller)
    with telemetry.attempt(job, lease.waited):
        if job.ended:
            said = f"job failed: the last of its {job.attempts} attempts was lost"
            attempt_ended(logging.ERROR, said, lease.told("failed"))
            return
        try:
            await Attempt(lease, payload, settings).run()
        except Cancelled:
            attempt_ended(logging.INFO, "job cancelled: it was stopped", lease.told("cancelled"))
        except NotYours:
            said = "job lost: this attempt counts for nothing. Its lease ran out: a blocked event loop does that"
            attempt_ended(logging.WARNING, said, lease.told("lost"))
        except asyncio.CancelledError:
            attempt_ended(logging.WARNING, "job interrupted: its process ends", lease.told("interrupted"))
            raise


class Attempt:
    """An attempt that has begun."""

    def __init__(self, lease: Lease, payload: str, settings: JobSettings) -> None:
        self._lease = lease
        self._job = lease.job
        self._payload = payload
        self._settings = settings
        self._limits = limits(self._job.task, settings)
        self._context = JobContext(self._job.id, self._job.attempts)

    async def run(self) -> None:
        """Raises NotYours when the lease was lost: what the body did counts for nothing then. Raises what the body
        raised if this was the last attempt."""
        job, max_attempts = self._job, self._limits.max_attempts
        try:
            result = await self._outcome()
        except NotYours:
            raise
        except Refused as error:
            await give_back(self._lease, error, self._settings)
        except Exception as error:
            last = isinstance(error, BadResult) or job.attempts >= max_attempts
            retry_in = None if last else BACKOFF_SECONDS[min(job.attempts, len(BACKOFF_SECONDS)) - 1]
            # Told before it is written down: that may take as long as the store is away.
            if last:
                attempt_ended(logging.ERROR, "job failed", self._lease.told("failed"), failed=True)
                # For the library that logs or shows it again, under a name of its own for the job.
                error.add_note(f"job {job.id}, attempt {job.attempts}, request {job.request_id}")
            else:
                said = f"job failed: it is tried again in {retry_in:g} s"
                attempt_ended(logging.ERROR, said, self._lease.told("retrying"), failed=True)
            await self._lease.fail(self._context.latest, _shown(error, job.request_id), retry_in)
            if last:
                raise
        else:
            await self._lease.succeed(self._context.latest, result)
            attempt_ended(logging.INFO, "job succeeded", self._lease.told("succeeded"))

    async def _outcome(self) -> str:
        """What the body returns, as JSON. It is stopped when the lease is lost or its time is over."""
        body = asyncio.create_task(contained(self._body()))
        renewing = asyncio.create_task(self._lease.renew(self._context))
        try:
            timeout = self._limits.timeout
            await asyncio.wait({body, renewing}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if renewing.done():
                renewing.result()
            if not body.done():
                raise OutOfTime(f"not done in {timeout:g} s")
            if body.cancelled():
                raise RuntimeError("the body cancelled itself")
            return body.result()
        finally:
            body.cancel()
            try:
                await asyncio.wait({body}, timeout=CLEANUP_SECONDS)  # the lease is renewed meanwhile
            finally:
                renewing.cancel()
            await asyncio.wait({renewing})
            if not body.done():
                leave_behind(body)
                log.error(
                    "job %s was stopped and has not ended %g s later: it is left behind", self._job.id, CLEANUP_SECONDS
                )

    async def _body(self) -> str:
        task = TASKS.get(self._job.task)
        if task is None:
            raise Refused(f"There is no task {self._job.task!r} in this version of the service.")
        try:
            payload = task.payload.model_validate_json(self._payload)
        except ValidationError:  # it quotes the payload, and a queue library logs causes too
            raise Refused(f"The payload is not a {task.payload.__name__} of this version of the service.") from None
        return to_text(await task(self._context, payload), self._settings.job_max_result_bytes)


def _shown(error: Exception, request_id: str) -> JobError:
    """What the caller is told of it."""
    if isinstance(error, OutOfTime):
        return JobError(code="job_timeout", message="The job took too long.", request_id=request_id)
    if isinstance(error, BadResult):
        return JobError(code="job_result", message=str(error), request_id=request_id)
    return JobError(code="job_failed", message="The job failed.", request_id=request_id)

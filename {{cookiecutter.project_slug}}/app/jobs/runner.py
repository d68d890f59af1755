"""One attempt at a job: take the lease and count the attempt, run the body, write its result and its end together."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import to_json

from app.errors import NotFound, Unavailable
from app.jobs import tasks  # noqa: F401 - they register themselves
from app.jobs.definition import TASKS, JobContext, limits
from app.jobs.job import Job, JobError, NotYours
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.logs import request_id

T = TypeVar("T")

log = logging.getLogger(__name__)
RENEWALS = 5  # in the time of a lease; a running job learns as late that it was cancelled
PROGRESS_SECONDS = 0.25
STORE_RETRY_SECONDS = 1.0
CLEANUP_SECONDS = 5.0
BACKOFF_SECONDS = (1.0, 5.0, 30.0)


class Refused(Exception):
    """The job can't be run, however often it is tried. Its text is shown to the caller."""


class OutOfTime(Exception):
    """The body has not ended within the job's time limit."""


async def run(store: Store, job_id: str, settings: JobSettings) -> None:
    """Does nothing when the job is not to be run now: held by another, cancelled, ended, forgotten.

    Raises what the last attempt raised, after writing it down, so that a queue library shows it as failed too.
    """
    holder = uuid4().hex

    def begin(job: Job) -> Job:
        return job.begin(holder, time.time(), settings.job_lease_seconds, limits(job.task, settings).max_attempts)

    try:
        job, payload = await _answered(lambda: store.begin(job_id, begin))
    except NotFound:
        log.info("job %s is not known (any more)", job_id)
        return
    except NotYours:
        log.info("job %s is not ours: held by another, not due, cancelled or ended", job_id)
        return
    request_id.set(job.request_id)
    if job.ended:
        log.error("job %s failed: none of its %d attempts came to an end", job_id, job.attempts)
        return
    try:
        await _attempt(store, job, payload, holder, settings)
    except NotYours:
        log.warning(
            "job %s: attempt %d counts for nothing: the job was cancelled, or its lease ran out, as it does when the "
            "event loop is blocked",
            job_id,
            job.attempts,
        )


async def _attempt(store: Store, job: Job, payload: str, holder: str, settings: JobSettings) -> None:
    context = JobContext(job.id, job.attempts)
    max_attempts, timeout = limits(job.task, settings)
    try:
        result = to_json(
            await _held(store, job, payload, holder, context, settings.job_lease_seconds, timeout)
        ).decode()
    except NotYours:
        raise
    except Exception as error:
        last = isinstance(error, Refused) or job.attempts >= max_attempts
        log.exception("job %s failed, attempt %d of %d", job.id, job.attempts, max_attempts)
        retry_in = None if last else BACKOFF_SECONDS[min(job.attempts, len(BACKOFF_SECONDS)) - 1]
        shown = _shown(error, job)
        await _write(store, job, lambda job: job.fail(holder, time.time(), context.latest, shown, retry_in))
        if last:
            raise
    else:
        await _write(store, job, lambda job: job.succeed(holder, time.time(), context.latest), result)


async def _write(store: Store, job: Job, change: Callable[[Job], Job], result: str | None = None) -> None:
    try:
        await _answered(lambda: store.update(job.id, change, result, seen=job))
    except NotFound as error:
        raise NotYours(job.id) from error


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    """What was done must not be done again, or for nothing, because the store was away at that moment."""
    while True:
        try:
            return await call()
        except Unavailable:
            log.warning("the store does not answer; trying again")
            await asyncio.sleep(STORE_RETRY_SECONDS)


async def _held(
    store: Store, job: Job, payload: str, holder: str, context: JobContext, lease: float, limit: float
) -> Any:
    """Runs the body while the lease is renewed; ends it when the lease is lost or the time is over."""
    body = asyncio.create_task(_body(job, payload, context))
    renewing = asyncio.create_task(_renew(store, job.id, holder, context, lease))
    try:
        await asyncio.wait({body, renewing}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if renewing.done():
            renewing.result()
        if not body.done():
            raise OutOfTime(f"not done in {limit:g} s")
        if body.cancelled():
            raise RuntimeError("the body cancelled itself")
        return body.result()
    finally:
        renewing.cancel()
        body.cancel()
        await asyncio.wait({body, renewing}, timeout=CLEANUP_SECONDS)
        if not body.done():
            log.error("job %s was stopped and has not ended %g s later: it is left behind", job.id, CLEANUP_SECONDS)


async def _body(job: Job, text: str, context: JobContext) -> Any:
    task = TASKS.get(job.task)
    if task is None:
        raise Refused(f"There is no task {job.task!r} in this version of the service.")
    try:
        payload = task.payload.model_validate_json(text)
    except ValidationError as error:
        raise Refused(f"The payload is not a {task.payload.__name__} of this version of the service.") from error
    try:
        return await task(context, payload)
    except SystemExit as error:  # which would end the event loop, and all that runs on it
        raise RuntimeError("the body called sys.exit()") from error


async def _renew(store: Store, job_id: str, holder: str, context: JobContext, lease: float) -> None:
    """Writes what is new of the progress, and the lease in any case. Raises NotYours once somebody else decides."""
    written, began, every = context.latest, time.monotonic(), lease / RENEWALS
    renewed = began
    while True:
        asleep = time.monotonic()
        # The longer a job takes, the less often: the list of its events stays short.
        due_in = renewed + every - asleep
        await asyncio.sleep(max(PROGRESS_SECONDS, min(due_in, (asleep - began) / 1000)))
        if (blocked := time.monotonic() - asleep) > 2 * every:
            log.warning("job %s has blocked the event loop for %.1f s: use asyncio.to_thread", job_id, blocked)
        latest = context.latest
        if latest == written and time.monotonic() - renewed < every:
            continue
        try:
            await store.update(
                job_id,
                partial(Job.renewed, holder=holder, now=time.time(), lease=lease, progress=latest),
            )
        except Unavailable:
            log.warning("job %s: the store does not answer; the lease is not renewed for now", job_id)
            continue
        except NotFound as error:
            raise NotYours(job_id) from error
        written, renewed = latest, time.monotonic()


def _shown(error: Exception, job: Job) -> JobError:
    if isinstance(error, OutOfTime):
        return JobError(code="job_timeout", message="The job took too long.", request_id=job.request_id)
    if isinstance(error, Refused):
        return JobError(code="job_refused", message=str(error), request_id=job.request_id)
    return JobError(code="job_failed", message="The job failed.", request_id=job.request_id)

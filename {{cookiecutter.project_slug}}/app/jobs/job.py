"""A job's record and the moves it can make. Pure: no clock, no store, no queue. Times are seconds since the epoch.

    queued ──> running ──> succeeded
                 │  ├────> failed       after the last attempt; `again` makes it queued
                 │  └────> retrying ──> running      after a failure, or when the lease has run out
    queued, running, retrying ──> cancelled

`due` is when somebody must dispatch the job next: when it is to begin, its lease ends, the pause before a retry is
over, or a message that the broker may have lost is to be repeated.
"""

from typing import Any, Self

from pydantic import BaseModel

from app.errors import Conflict
from app.jobs.status import ENDED, Cancelled, Count, Due, JobError, JobStatus, NoSuchJob, NotYours, Progress, Time

MAX_PAUSE_SECONDS = 120.0
GIVEN_BACK_SECONDS = 5.0, 60.0  # until a job that was given back is due: at first, and at most
DOUBLINGS = 10  # enough for the longest pause; without a bound, a job that waits for weeks would overflow a float


class Job(BaseModel, frozen=True, extra="allow"):
    """Fields that a later version has added are ignored and kept: while it is deployed, both run side by side."""

    id: str
    task: str
    fingerprint: str  # of the payload: the same idempotency key with another one is a conflict
    request_id: str
    traceparent: str = ""  # of the request that it was accepted from
    caller: str = "anonymous"  # whose job it is, by the name of their Caller
    created_at: Time
    due: Due | None  # None when nobody needs to look again
    status: JobStatus = "queued"
    attempts: Count = 0
    attempted: str = ""  # the traceparent of the attempt that failed last
    dispatches: Count = 0  # since the last attempt began
    holder: str | None = None  # who has the lease
    since: Due | None = None  # when the attempt that runs began; of a job that was dispatched, since when it waits
    progress: Progress = Progress()
    error: JobError | None = None
    unfit_since: Time | None = None  # since when workers have given it back; None once one has made an attempt
    started_at: Time | None = None
    ended_at: Time | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def waits_since(self) -> float | None:
        """When its next attempt ought to begin: `due`, until a dispatch moves that, and then `since`. None if no
        attempt is to begin."""
        since = self.since if self.dispatches and self.since is not None else self.due
        return since if self.status in ("queued", "retrying") else None

    def of(self, caller: str) -> Self:
        """Raises NoSuchJob if it is another caller's."""
        if self.caller != caller:
            raise NoSuchJob
        return self

    def dispatched(self, now: float, pause: float) -> Self:
        """Takes the lease from a holder that let it run out. `pause` is the seconds until the job is dispatched again,
        if nobody begins it. They double with each dispatch, so that a long queue gets few repeats."""
        if self.due is None or self.due > now:
            raise NotYours(self.id)
        return self._with(
            status="retrying" if self.status == "running" else self.status,
            holder=None,
            since=self.due if self.status == "running" else self.waits_since,
            due=now + min(pause * 2 ** min(self.dispatches, DOUBLINGS), MAX_PAUSE_SECONDS),
            dispatches=self.dispatches + 1,
        )

    def begin(self, holder: str, now: float, lease: float, max_attempts: int) -> Self:
        """Counts the attempt before it is made, so that a job which kills its process fails in the end."""
        if self.holder == holder:  # it has begun already, and the store's answer was lost
            return self
        # An old message: nothing was dispatched since the last attempt, which still runs, or whose pause is not over.
        if self.due is None or not self.dispatches:
            raise NotYours(self.id)
        if self.attempts >= max_attempts:
            error = JobError(code="attempts_lost", message="The last attempt was lost.", request_id=self.request_id)
            return self._end("failed", now, error=error)
        begun = self._with(status="running", attempts=self.attempts + 1, started_at=self.started_at or now)
        return begun._with(dispatches=0, holder=holder, due=now + lease, since=now)

    def renewed(self, holder: str, now: float, lease: float, progress: Progress) -> Self:
        return self._held_by(holder)._with(due=now + lease, progress=progress)

    def succeed(self, holder: str, now: float, progress: Progress) -> Self:
        done = progress.model_copy(update={"fraction": 1.0})
        return self._held_by(holder)._end("succeeded", now, progress=done, error=None)

    def fail(
        self, holder: str, now: float, progress: Progress, error: JobError, retry_in: float | None, attempted: str = ""
    ) -> Self:
        """`retry_in` is in seconds, or None when this was the last attempt. `attempted` is its traceparent."""
        job = self._held_by(holder)._with(progress=progress, error=error, attempted=attempted, unfit_since=None)
        if retry_in is None:
            return job._end("failed", now)
        return job._with(status="retrying", holder=None, due=now + retry_in)

    def give_back(self, holder: str, now: float, error: JobError, seconds: float) -> Self:
        """Another version may be able to run the job, so this attempt does not count. It is due soon at first, then
        more and more rarely: many must not hold up others. Given back for so many `seconds`, it has failed."""
        since, attempts = self.unfit_since or now, self.attempts - 1
        job = self._held_by(holder)._with(attempts=attempts, unfit_since=since, error=error)
        if now - since >= seconds:
            return job._end("failed", now)
        first, longest = GIVEN_BACK_SECONDS
        return job._with(
            status="retrying" if attempts else "queued",
            holder=None,
            due=now + min(max(first, now - since), longest),
            started_at=self.started_at if attempts else None,
        )

    def cancel(self, now: float) -> Self:
        if self.ended:
            raise Conflict(f"the job is {self.status}: only one that has not ended can be cancelled")
        return self._end("cancelled", now)

    def again(self, now: float) -> Self:
        """A failed job starts over, with all its attempts. It keeps its request id, that of the first request."""
        if self.status != "failed":
            raise Conflict(f"the job is {self.status}: only a failed one can be run again")
        fresh = self._with(attempts=0, dispatches=0, since=None, progress=Progress(), error=None, unfit_since=None)
        return fresh._with(status="queued", due=now, started_at=None, ended_at=None)

    def event(self) -> dict[str, Any]:
        """What followers of the job see of it."""
        return {"state": self.status, "progress": self.progress.model_dump()}

    def _held_by(self, holder: str) -> Self:
        if self.holder != holder:
            raise Cancelled(self.id) if self.status == "cancelled" else NotYours(self.id)
        return self

    def _end(self, status: JobStatus, now: float, **changes: Any) -> Self:
        return self._with(status=status, holder=None, due=None, ended_at=now, **changes)

    def _with(self, **changes: Any) -> Self:
        return self.model_copy(update=changes)

"""A job's record in the memory of this process, with all that belongs to it."""

import sys
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.jobs.job import Job
from app.jobs.status import Backlog, JobStatus

JOB_BYTES = 2500  # about what a record takes, and an event
EVENT_BYTES = 500


@dataclass
class Entry:
    job: Job
    payload: str
    result: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = JOB_BYTES  # of memory, for all of it

    def __post_init__(self) -> None:
        self.bytes += sys.getsizeof(self.payload)
        self.add_event()

    def add_event(self) -> None:
        self.events.append(event := self.job.event())
        self.bytes += EVENT_BYTES + sys.getsizeof(event["progress"]["message"])

    def add_result(self, result: str) -> None:
        self.result = result
        self.bytes += sys.getsizeof(result)

    def drop_payload(self) -> None:
        self.bytes -= sys.getsizeof(self.payload) - sys.getsizeof("")
        self.payload = ""


class Live:
    """The jobs that have not ended."""

    def __init__(self) -> None:
        self._due: list[tuple[float, str]] = []  # when somebody must look at which: sorted
        self._waits: list[tuple[float, str]] = []  # since when which waits for an attempt: sorted
        self._number = Counter[JobStatus]()

    def note(self, job: Job, before: Job | None = None) -> None:
        """`before` is what the job was."""
        _move(self._due, job.id, before.due if before else None, job.due)
        _move(self._waits, job.id, before.waits_since if before else None, job.waits_since)
        if before:
            self._number[before.status] -= 1
        self._number[job.status] += 1

    def due(self, now: float, limit: int) -> list[str]:
        return [job_id for at, job_id in self._due[:limit] if at <= now]

    def backlog(self, now: float) -> Backlog:
        oldest = min([now, *(since for since, _ in self._waits[:1])])
        return Backlog(self._number["queued"], self._number["running"], self._number["retrying"], now - oldest)


def _move(places: list[tuple[float, str]], job_id: str, before: float | None, at: float | None) -> None:
    if before is not None:
        del places[bisect_left(places, (before, job_id))]
    if at is not None:
        insort(places, (at, job_id))

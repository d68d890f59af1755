"""A job's record in the memory of this process, with all that belongs to it."""

import sys
from dataclasses import dataclass, field
from typing import Any

from app.jobs.job import Job

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

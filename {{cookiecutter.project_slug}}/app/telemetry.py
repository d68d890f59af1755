"""What this service tells of its work: a line of the log for each answer, refusal and attempt at a job, and the trace
that they belong to.

A trace is all that one request leads to, in however many services. Whoever begins it sends its id in the header
`traceparent` (W3C Trace Context, section 3.2). It is in each line of the log, and goes on with a question to the
model's service, and into the record of a job.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from time import monotonic
from typing import Protocol

from app import logs

log = logging.getLogger(__name__)
usage = logging.getLogger("app.usage")
TRACEPARENT = re.compile("00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_traceparent: ContextVar[str] = ContextVar("traceparent", default="")


def set_up_worker(level: str, form: str) -> None:
    """Sets up what a worker tells. It is called in each process of a worker, before its first job."""
    logs.set_up(level, form)


def join_trace(traceparent: str) -> None:
    """What is told from now on belongs to that trace, or to none if this is no `traceparent`."""
    found = TRACEPARENT.fullmatch(traceparent)
    _traceparent.set(found[0] if found else "")
    logs.trace_id.set(found[1] if found else "-")


def traceparent() -> str:
    """For what goes on with the trace: a header, or the record of a job. Empty without a trace."""
    return _traceparent.get()


class Answering:
    """What is told of one answer. `started` is when the model was asked, and `first_piece` when its first piece came
    that is not empty: in seconds of `time.monotonic`, and None until then."""

    def __init__(self, service: str, model: str) -> None:
        """By the names of the model and of its service."""
        self.context: Context = copy_context()
        """For what makes the answer: it belongs to the trace of the request that has asked for it."""
        self.model = f"{service}/{model}"
        self.started: float | None = None
        self.first_piece: float | None = None

    @property
    def seconds_to_first_piece(self) -> float | None:
        return None if self.started is None or self.first_piece is None else self.first_piece - self.started

    def begin(self, messages: Sized) -> None:
        """The model is asked. Called in `context`."""
        self.started = monotonic()
        log.debug("the model is asked", extra={"model": self.model, "messages": len(messages)})

    def piece(self) -> None:
        """A piece has come that is not empty."""
        self.first_piece = self.first_piece or monotonic()

    def end(self, fields: Mapping[str, object], text: str) -> None:
        """`fields` say how it has ended, and what it took. `text` is what the model has said."""
        usage.info("usage", extra={**fields, "chars": len(text)})


def answer_lost(answer_id: str) -> None:
    """The process is gone that made an answer, and this one has ended it for its readers. Nobody else tells of that."""
    log.warning("an answer is lost: its process is gone", extra={"stream": answer_id})


def reader_came_back() -> None:
    """Somebody reads an answer that is there already."""
    log.debug("a reader came back")


def reader_ended(outcome: str) -> None:
    """`outcome` is `end`; `left`; `stalled`, if it has taken nothing for too long; `sent_back`, if it is told to come
    back, as when the server stops; or `failed`."""
    log.debug("reader ended", extra={"outcome": outcome})


def refused(limit: str) -> None:
    """A limit has refused a request."""
    log.info("refused", extra={"limit": limit})


def job_accepted(task: str, job_id: str) -> None:
    log.info("job accepted", extra={"task": task, "job": job_id})


class Job(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def traceparent(self) -> str: ...


@contextmanager
def attempt(job: Job, waited: float) -> Iterator[None]:
    """What is told in the block belongs to the trace of the request that the job was accepted from. `waited` is the
    seconds since the attempt ought to have begun."""
    join_trace(job.traceparent)
    log.debug("job begun", extra={"task": job.task, "job": job.id, "attempt": job.attempts, "waited": round(waited, 3)})
    yield


def attempt_ended(level: int, message: str, fields: Mapping[str, object], *, failed: bool = False) -> None:
    """Called in the block of `attempt`. `fields` say how it has ended: its task, job, attempt, seconds and outcome.
    With `failed`, the exception that is handled now is told too."""
    log.log(level, message, extra={**fields}, exc_info=failed)


def lease_taken(fields: Mapping[str, object]) -> None:
    """The lease of an attempt has run out, and the job is given to whoever is free. `fields` are those of an end."""
    log.warning("job lost: its lease ran out, as when its process dies. It is tried again", extra={**fields})


def end_worker() -> None:
    """A process that a worker has started for its jobs has done the last of them."""
    log.debug("worker ended")

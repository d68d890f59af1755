"""What is told of attempts at jobs: a span of each, how long it has waited and taken, and how it has ended."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import logs
from app.otel.measures import measure

log = logging.getLogger("app.telemetry")
tracer = trace.get_tracer("app")
W3C = TraceContextTextMapPropagator()  # a job's record has it, whatever headers OTEL_PROPAGATORS names for services
FINE = "succeeded", "given_back", "cancelled"  # outcomes that are no error

_end: ContextVar[dict[str, Any]] = ContextVar("end")  # how the attempt that is made now has ended


class Job(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def traceparent(self) -> str: ...
    @property
    def attempted(self) -> str: ...


@contextmanager
def attempt(job: Job, waited: float) -> Iterator[None]:
    """What is told in the block belongs to the trace of the request that the job was accepted from. `waited` is the
    seconds since the attempt ought to have begun.

    The attempt is a span, under that of the request. A retry, also one by route, has a link to the attempt that failed
    before it, or to the request where none has said so: an attempt whose process was killed has no span.
    """
    measure("jobs.wait.duration", waited, {"task": job.task})
    told: dict[str, str | int] = {"task": job.task, "job": job.id, "attempt": job.attempts}
    retried = trace.get_current_span(_context(job.attempted or job.traceparent)).get_span_context()
    with tracer.start_as_current_span(
        f"job {job.task}",
        _context(job.traceparent),
        trace.SpanKind.CONSUMER,
        told,
        [trace.Link(retried)] if (job.attempts > 1 or job.attempted) and retried.is_valid else [],
        record_exception=False,  # what it says may hold anything
        set_status_on_exception=False,
    ) as span:
        own = span.get_span_context()
        logs.trace_id.set(trace.format_trace_id(own.trace_id) if own.is_valid else "-")
        log.debug("job begun", extra={**told, "waited": round(waited, 3)})
        end: dict[str, Any] = {"outcome": "lost"}  # so it stays if this process is told to stop
        _end.set(end)
        try:
            yield
        finally:
            span.set_attributes(end)
            if end["outcome"] not in FINE:
                span.set_status(trace.StatusCode.ERROR)
            # One that is lost was counted where its lease was taken away, for its process may be dead.
            if end["outcome"] != "lost":
                measure("jobs.attempt.duration", end["seconds"], {"task": job.task, "outcome": end["outcome"]})


def attempt_ended(level: int, message: str, fields: Mapping[str, object], *, failed: bool = False) -> None:
    """Called in the block of `attempt`. `fields` say how it has ended: its task, job, attempt, seconds and outcome.
    With `failed`, the exception that is handled now is told too. An attempt that has failed may turn out to be lost:
    the last call says how it has ended."""
    log.log(level, message, extra={**fields}, exc_info=failed)
    error = sys.exception() if failed else None
    _end.get().update(fields, **({"error.type": type(error).__qualname__} if error else {}))


def lease_taken(fields: Mapping[str, Any]) -> None:
    """The lease of an attempt has run out, and the job is given to whoever is free. `fields` are those of an end."""
    measure("jobs.attempt.duration", fields["seconds"], {name: fields[name] for name in ("task", "outcome")})
    log.warning("job lost: its lease ran out, as when its process dies. It is tried again", extra={**fields})


def _context(traceparent: str) -> Context:
    return W3C.extract({"traceparent": traceparent}, Context())

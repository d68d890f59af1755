"""What this service tells of its work: a line of the log, measures and spans, for each answer, refusal and attempt at a
job.

A trace is all that one request leads to, in however many services. The header `traceparent` (W3C Trace Context) carries
it from one to the next, and a job's record to the worker. `app/otel/` says where all that goes.
"""

import logging
from collections.abc import Mapping
from contextvars import Context, copy_context
from time import monotonic

from opentelemetry import propagate, trace

from app import logs
from app.otel import export
from app.otel.attempts import attempt as attempt
from app.otel.attempts import attempt_ended as attempt_ended
from app.otel.attempts import lease_taken as lease_taken
from app.otel.measures import count

log = logging.getLogger(__name__)
tracer = trace.get_tracer("app")


def set_up_worker(level: str, form: str) -> None:
    """Sets up what a worker tells. It is called in each process of a worker, before its first job."""
    logs.set_up(level, form)
    export.set_up(worker=True)


def belongs_to(_traceparent: str) -> None:
    """What is told from now on belongs to the trace of the span that FastAPI has begun for the request."""
    context = trace.get_current_span().get_span_context()
    logs.trace_id.set(trace.format_trace_id(context.trace_id) if context.is_valid else "-")


def traceparent() -> str:
    """For what goes on with the trace: a header, or the record of a job. Empty without a trace."""
    carrier = dict[str, str]()
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


class Answering:
    """What is told of one answer. `started` is when the model was asked, and `first_piece` when its first piece came
    that is not empty: in seconds of `time.monotonic`, and None until then."""

    def __init__(self, model: str) -> None:
        self.context: Context = copy_context()
        """For what makes the answer: it belongs to the trace of the request that has asked for it."""
        self.model = model
        self.started: float | None = None
        self.first_piece: float | None = None

    def begin(self) -> None:
        self.started = monotonic()

    def piece(self) -> None:
        self.first_piece = self.first_piece or monotonic()

    def end(self, fields: Mapping[str, object]) -> None:
        """`fields` say how it has ended, and what it took."""
        log.info("usage", extra={**fields})


def reader_came_back() -> None:
    """Somebody reads an answer that is there already."""
    count("chat.readers.came_back", {})
    log.debug("a reader came back")


def reader_ended(outcome: str) -> None:
    """`outcome` is `end`, `left`, `stalled`, `sent_back` or `failed`."""
    count("chat.readers.ended", {"outcome": outcome})
    log.debug("reader ended", extra={"outcome": outcome})


def refused(limit: str) -> None:
    """A limit has refused a request."""
    count("chat.refusals", {"limit": limit})
    log.info("refused", extra={"limit": limit})


def job_accepted(task: str, job_id: str) -> None:
    count("jobs.accepted", {"task": task})
    log.info("job accepted", extra={"task": task, "job": job_id})


def end_worker() -> None:
    """It is called in each process of a worker that another one has begun, behind its last job."""
    log.debug("worker ended")
    export.set_up(worker=True).flush()

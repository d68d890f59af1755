"""What this service tells of its work: a line of the log, measures and spans, for each answer, refusal and attempt at a
job.

A trace is all that one request leads to, in however many services. The header `traceparent` (W3C Trace Context) carries
it from one to the next, and a job's record to the worker. `app/otel/` says where all that goes.
"""

import logging

from opentelemetry import context, trace

from app import logs
from app.otel import export
from app.otel.answering import Answering as Answering
from app.otel.attempts import W3C
from app.otel.attempts import attempt as attempt
from app.otel.attempts import attempt_ended as attempt_ended
from app.otel.attempts import lease_taken as lease_taken
from app.otel.measures import count

log = logging.getLogger(__name__)


def set_up_worker(level: str, form: str) -> None:
    """Sets up what a worker tells. It is called in each process of a worker, before its first job."""
    logs.set_up(level, form)
    export.set_up(worker=True)


def join_trace(traceparent: str) -> None:
    """What is told from now on belongs to the trace of the span that FastAPI has begun for the request. Where nothing
    is exported there is no such span, and the trace goes on as it came."""
    span = trace.get_current_span().get_span_context()
    if span.is_remote or not span.is_valid:  # a remote one is of no request here
        found = W3C.extract({"traceparent": traceparent}, trace.set_span_in_context(trace.INVALID_SPAN))
        context.attach(found)
        span = trace.get_current_span().get_span_context()
    logs.trace_id.set(trace.format_trace_id(span.trace_id) if span.is_valid else "-")


def traceparent() -> str:
    """For what goes on with the trace: a header, or the record of a job. Empty without a trace."""
    carrier = dict[str, str]()
    W3C.inject(carrier)
    return carrier.get("traceparent", "")


def answer_lost(answer_id: str) -> None:
    """The process is gone that made an answer, and this one has ended it for its readers. Nobody else tells of that."""
    count("chat.answers.lost", {})
    log.warning("an answer is lost: its process is gone", extra={"stream": answer_id})


def reader_came_back() -> None:
    """Somebody reads an answer that is there already."""
    count("chat.readers.came_back", {})
    log.debug("a reader came back")


def reader_ended(outcome: str) -> None:
    """`outcome` is `end`; `left`; `stalled`, if it has taken nothing for too long; `sent_back`, if it is told to come
    back, as when the server stops; or `failed`."""
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
    """A process that a worker has started for its jobs has done the last of them."""
    log.debug("worker ended")
    export.set_up(worker=True).flush()

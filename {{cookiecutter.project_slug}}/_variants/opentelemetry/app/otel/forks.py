"""What processes tell that were forked from this one, as some workers do for each job, or once for many.

They export nothing: such a process may end as soon as its job has ended, and to export would hold it up. They hand what
they have measured, and each span that has ended, through a pipe to this process, which exports it as its own. So a
worker is one series of figures, and those of a fork that was killed are right: what it has handed over is here.

Nobody waits for the pipe. What does not fit into it is dropped, and a line of the log says how much.
"""

import atexit
import json
import logging
import os
import select
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

log = logging.getLogger(__name__)
END_SECONDS = 1.0  # at the end of this process, for what is still in the pipe

_pipe: int | None = None  # of a fork: where it writes
_dropped = 0


def is_fork() -> bool:
    return _pipe is not None


def hand_over(kind: str, *told: object) -> None:
    """Of a fork. Never waits."""
    global _dropped
    if _dropped and _write("dropped", _dropped):
        _dropped = 0
    _dropped += not _write(kind, *told)


def _write(*told: object) -> bool:
    """Whether there was space for it."""
    line = f"{json.dumps(told, default=str)}\n".encode()  # of a span's attributes, bytes are no JSON
    try:
        # Of more than PIPE_BUF bytes, a part may be written, and other forks' lines into it.
        return _pipe is not None and len(line) <= select.PIPE_BUF and os.write(_pipe, line) == len(line)
    except OSError:  # it is full, or its reader is dead
        return False


def listen(receivers: Mapping[str, Callable[..., None]]) -> None:
    """Once in a process that may fork: its forks hand over, and a thread gives it to the receiver of its kind."""
    if not hasattr(os, "register_at_fork"):
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    dropped = partial(log.warning, "%d of what forked processes have measured is dropped")
    told: Mapping[str, Callable[..., None]] = {"dropped": dropped, **receivers}

    def forked() -> None:
        global _pipe
        _pipe = write

    def take() -> None:
        with open(read, "rb") as lines:
            for line in lines:
                try:
                    kind, *arguments = json.loads(line)
                    told[kind](*arguments)
                except Exception:
                    log.exception("what a fork has handed over can't be read")

    def end() -> None:
        os.close(write)  # the last who may write, if all forks have ended
        reader.join(END_SECONDS)

    reader = threading.Thread(target=take, name="what forks tell", daemon=True)
    reader.start()
    os.register_at_fork(after_in_child=forked)
    atexit.register(end)


class Metrics(OTLPMetricExporter):
    """The SDK goes on exporting in a fork: what this process had measured by then, again and again."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        return MetricExportResult.SUCCESS if is_fork() else super().export(metrics_data, timeout_millis, **kwargs)


class Spans(BatchSpanProcessor):
    """Those of forks, too."""

    def on_end(self, span: ReadableSpan) -> None:
        if not is_fork():
            super().on_end(span)
        elif span.context and span.context.trace_flags.sampled:
            hand_over("span", *_parts(span))

    def take(self, resource: Resource, *parts: Any) -> None:
        """Of a fork. A span that the SDK begins would get another id than the one that the fork's log and other
        services have of it."""
        name, kind, own, parent, times, status, attributes, events, links, (scope, version, schema) = parts
        super().on_end(
            ReadableSpan(
                name,
                _context(*own),
                _context(*parent) if parent else None,
                resource,
                attributes,
                [Event(event, of_event, at) for event, of_event, at in events],
                [Link(_context(*linked), of_link) for linked, of_link in links],
                SpanKind(kind),
                status=Status(StatusCode(status[0]), status[1]),
                start_time=times[0],
                end_time=times[1],
                instrumentation_scope=InstrumentationScope(scope, version, schema),
            )
        )


def _parts(span: ReadableSpan) -> list[object]:
    scope = span.instrumentation_scope
    return [
        span.name,
        span.kind.value,
        _ids(span.context),
        _ids(span.parent),
        [span.start_time, span.end_time],
        [span.status.status_code.value, span.status.description],
        dict(span.attributes or {}),
        [[event.name, dict(event.attributes or {}), event.timestamp] for event in span.events],
        [[_ids(link.context), dict(link.attributes or {})] for link in span.links],
        [scope.name, scope.version, scope.schema_url] if scope else ["", None, None],
    ]


def _ids(context: SpanContext | None) -> list[object] | None:
    return [context.trace_id, context.span_id, context.is_remote, int(context.trace_flags)] if context else None


def _context(trace_id: int, span_id: int, is_remote: bool, flags: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(flags))

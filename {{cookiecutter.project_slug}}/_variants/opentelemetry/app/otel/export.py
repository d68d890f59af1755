"""Where metrics and traces go: by OTLP to the address that the standard `OTEL_*` variables name, and to Prometheus, if
it comes for the metrics.

A service that they go to may be away, or stand still. Nothing waits for it: threads of the SDK send what there is, and
keep no more than OTEL_BSP_MAX_QUEUE_SIZE spans.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from app.otel import forks
from app.otel.measures import SECONDS, count, measure
from app.otel.prometheus import Exposition
from app.otel.settings import TelemetrySettings

log = logging.getLogger(__name__)
FLUSH_SECONDS = 2.0  # at the end of a process, for what it has not sent
SELDOM_SECONDS = 300.0
MOST_CHARS = 1000  # of what a caller has written, on the span of a request
# FastAPI's own buckets end at 10 s, and a stream lasts for minutes. It also tells the version of HTTP that a caller
# claims to speak: with h11, any from 0.0 to 9.9.
REQUESTS = View(
    instrument_name="http.server.request.duration",
    aggregation=ExplicitBucketHistogramAggregation(SECONDS),
    attribute_keys={"http.request.method", "http.route", "http.response.status_code", "error.type", "url.scheme"},
)


@dataclass
class Export:
    """What this process has set up."""

    settings: TelemetrySettings
    exposition: Exposition | None = None
    flushes: list[Callable[[], object]] = field(default_factory=list)
    of_forks: dict[str, Callable[..., None]] = field(default_factory=lambda: {"measure": measure, "count": count})

    @property
    def is_there(self) -> bool:
        """Whether anybody is told of metrics or traces."""
        return bool(self.exposition or self.flushes)

    def flush(self) -> None:
        """Sends what there is, and waits for FLUSH_SECONDS at most. Each goes in a thread that holds up nothing, not
        even the end of the process: the SDK would wait there until its own limits, for half a minute."""
        threads = [threading.Thread(target=flush, daemon=True) for flush in self.flushes]
        for thread in threads:
            thread.start()
        until = time.monotonic() + FLUSH_SECONDS
        for thread in threads:
            thread.join(max(0, until - time.monotonic()))


@cache
def set_up(worker: bool = False) -> Export:
    """Once in each process. A fork of a worker hands over to the worker, and one of a web server, as gunicorn's with
    `--preload`, tells for itself. Without an address nothing is measured. Raises SystemExit if settings are wrong."""
    settings = TelemetrySettings.read()
    export = Export(settings)
    try:
        resource = Resource.create(None if settings.has_a_service_name else {SERVICE_NAME: name_of(settings, worker)})
        if settings.exports_traces:
            _export_traces(export, resource)
        if settings.exports_metrics or settings.is_scraped:
            _export_metrics(export, resource)
    except ValueError as error:  # of a variable that only the SDK knows
        raise SystemExit(f"OTEL_*: {error}") from None
    logging.getLogger("opentelemetry").addHandler(Seldom())
    logging.getLogger("opentelemetry").propagate = False
    if worker:
        if export.exposition and settings.metrics_port:
            export.exposition.serve(settings.metrics_host, settings.metrics_port)
        elif export.exposition:
            log.warning(
                "Prometheus can't ask this worker, for a worker has no routes: give it a METRICS_PORT of its own"
            )
        atexit.register(export.flush)
        if export.is_there:
            forks.listen(export.of_forks)
    return export


def name_of(settings: TelemetrySettings, worker: bool) -> str:
    return f"{settings.app_name}-worker" if worker else settings.app_name


def _export_traces(export: Export, resource: Resource) -> None:
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(Harmless())
    most, batch = export.settings.otel_bsp_max_queue_size, export.settings.otel_bsp_max_export_batch_size
    spans = forks.Spans(OTLPSpanExporter(), max_export_batch_size=min(batch, most))  # the SDK takes no larger one
    provider.add_span_processor(spans)
    trace.set_tracer_provider(provider)
    export.flushes.append(provider.force_flush)
    export.of_forks["span"] = partial(spans.take, resource)


def _export_metrics(export: Export, resource: Resource) -> None:
    readers = list[MetricReader]()
    if export.settings.exports_metrics:
        readers.append(reader := PeriodicExportingMetricReader(forks.Metrics()))
        export.flushes.append(reader.force_flush)
    if export.settings.is_scraped:
        export.exposition = Exposition()
        readers.append(export.exposition.reader)
    metrics.set_meter_provider(MeterProvider(readers, resource, views=[REQUESTS], shutdown_on_exit=False))


class Harmless(SpanProcessor):
    """FastAPI shows on the span of a request what its caller has written. The query of a path may hold what is for a
    model. And a path of 60 kB, in each of the spans that wait for a service that is away, would take 120 MB."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name, value in dict(span.attributes or {}).items():
            if name == "url.query":
                span.set_attribute(name, "REDACTED")
            elif isinstance(value, str) and len(value) > MOST_CHARS:
                span.set_attribute(name, value[:MOST_CHARS])


class Seldom(logging.Handler):
    """Hands on what the SDK logs, but of what it says over and over only one record each SELDOM_SECONDS: while the
    service that it sends to is away, it has one or more to say of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        said, now = f"{record.name} {record.msg}", time.monotonic()
        if self._said.get(said, -SELDOM_SECONDS) <= now - SELDOM_SECONDS:
            self._said[said] = now
            logging.getLogger().handle(record)

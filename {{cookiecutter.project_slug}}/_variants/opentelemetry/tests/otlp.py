"""A service that metrics and traces are sent to: it reads OTLP, and keeps all of it."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_SECONDS = 30.0
Attributes = dict[str, Any]


@dataclass
class Span:
    name: str
    kind: str  # SERVER, CLIENT, CONSUMER, …
    trace_id: str
    span_id: str
    parent_id: str  # empty for the first of a trace
    seconds: float
    status: str  # UNSET, OK or ERROR
    attributes: Attributes
    resource: Attributes
    events: list[str]
    links: list[tuple[str, str]]  # the ids of a trace and of a span in it


@dataclass
class Point:
    """The newest of a metric, for these attributes, of one process. Of a histogram, `value` is the sum of its `count`
    values, and `buckets` are how many lie below each bound and behind the last."""

    value: float
    attributes: Attributes
    resource: Attributes
    count: int = 0
    buckets: list[int] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)


class Receiver:
    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        self.requests: list[str] = []
        """The path of each."""
        self.received = b""
        """All of it, for what must not be there."""
        self._spans: list[Span] = []
        self._points: dict[tuple[str, str, str], Point] = {}
        self._news = threading.Condition()

    @property
    def env(self) -> dict[str, str]:
        """The settings of a process that exports to this, and soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def spans(self, name: str = "", **attributes: object) -> list[Span]:
        """Those of that name, and that have these attributes: `__` stands for a dot."""
        with self._news:
            found = [span for span in self._spans if name in ("", span.name)]
        return [span for span in found if _has(span.attributes, attributes)]

    def points(self, name: str, **attributes: object) -> list[Point]:
        """The newest of each process and of all attributes, of which these are some."""
        with self._news:
            found = [point for (_, metric, _), point in self._points.items() if metric == name]
        return [point for point in found if _has(point.attributes, attributes)]

    def total(self, name: str, **attributes: object) -> float:
        """How many were counted or measured, in all processes."""
        return sum(point.count or point.value for point in self.points(name, **attributes))

    def names(self) -> set[str]:
        """Of all metrics that came."""
        with self._news:
            return {name for _, name, _ in self._points}

    def until(self, so: Callable[[], object], what: str = "what the test waits for") -> None:
        """Waits until this is so. It is looked at again after each request."""
        with self._news:
            came = self._news.wait_for(so, WAIT_SECONDS)
        assert came, f"{what} has not come; there are {sorted(self.names())}, {[span.name for span in self.spans()]}"

    def until_exported(self) -> None:
        """Waits until metrics have come twice more: by then what was so at the call is among them."""
        seen = self.requests.count("/v1/metrics")
        self.until(lambda: self.requests.count("/v1/metrics") >= seen + 2, "the next export")

    def take(self, path: str, body: bytes) -> None:
        with self._news:
            if path == "/v1/traces":
                self._take_spans(ExportTraceServiceRequest.FromString(body))
            elif path == "/v1/metrics":
                self._take_points(ExportMetricsServiceRequest.FromString(body))
            self.received += body
            self.requests.append(path)
            self._news.notify_all()

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for each in (span for scope in of_resource.scope_spans for span in scope.spans):
                self._spans.append(
                    Span(
                        name=each.name,
                        kind=each.SpanKind.Name(each.kind).removeprefix("SPAN_KIND_"),
                        trace_id=each.trace_id.hex(),
                        span_id=each.span_id.hex(),
                        parent_id=each.parent_span_id.hex(),
                        seconds=(each.end_time_unix_nano - each.start_time_unix_nano) / 1e9,
                        status=each.status.StatusCode.Name(each.status.code).removeprefix("STATUS_CODE_"),
                        attributes=_attributes(each.attributes),
                        resource=resource,
                        events=[event.name for event in each.events],
                        links=[(link.trace_id.hex(), link.span_id.hex()) for link in each.links],
                    )
                )

    def _take_points(self, request: ExportMetricsServiceRequest) -> None:
        """What a process tells is all that it has: sums since it began, and the gauges of now."""
        for of_resource in request.resource_metrics:
            resource = _attributes(of_resource.resource.attributes)
            process = str(resource.get("service.instance.id"))
            self._points = {key: point for key, point in self._points.items() if key[0] != process}
            for metric in (metric for scope in of_resource.scope_metrics for metric in scope.metrics):
                kind = metric.WhichOneof("data")
                for each in getattr(metric, kind).data_points:
                    attributes = _attributes(each.attributes)
                    if kind == "histogram":
                        of_histogram = each.count, list(each.bucket_counts), list(each.explicit_bounds)
                        point = Point(each.sum, attributes, resource, *of_histogram)
                    else:
                        point = Point(getattr(each, each.WhichOneof("value")), attributes, resource)
                    self._points[process, metric.name, repr(sorted(attributes.items()))] = point


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            zipped = self.headers.get("Content-Encoding") == "gzip"
            receiver.take(self.path, gzip.decompress(body) if zipped else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def stalling(drip: bytes = b"") -> Iterator[tuple[str, list[socket.socket]]]:
    """A service that takes every connection, and answers nothing: with `drip`, these bytes, one each half second.
    Gives its address, and the connections that it has taken."""
    taken: list[socket.socket] = []
    ends = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):  # it is closed at the end
            while True:
                taken.append(listener.accept()[0])

    def drop() -> None:
        for number in range(len(drip)):
            if ends.wait(0.5):
                return
            for each in taken:
                with suppress(OSError):
                    each.send(drip[number : number + 1])

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threads = [threading.Thread(target=serve, args=(listener,)), threading.Thread(target=drop)]
        for thread in threads:
            thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        finally:
            ends.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in taken:
                each.close()


def _has(attributes: Attributes, wanted: dict[str, object]) -> bool:
    return all(attributes.get(name.replace("__", ".")) == value for name, value in wanted.items())


def _attributes(pairs: Any) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None

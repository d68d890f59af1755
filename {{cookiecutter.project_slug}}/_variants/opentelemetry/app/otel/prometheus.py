"""The metrics in Prometheus's own format: for a route, or at a port of their own."""

import os
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, Metric, generate_latest, make_wsgi_app
from prometheus_client.registry import Collector

ALONE = "each process that Prometheus asks needs a port of its own (by OTLP, any number of them may tell)"

PATIENCE_SECONDS = 5.0


class Exposition(Collector):
    """What Prometheus is told."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self._lock = threading.Lock()
        self.reader = PrometheusMetricReader(scope_info_enabled=False, registry=self._own)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """For one who asks at a time: of two at once, the reader would give one both's metrics, and the other none."""
        with self._lock:
            return list(self._own.collect())

    def text(self) -> bytes:
        """Waits for the event loop, which looks at what is so at this moment: must not be called there."""
        return generate_latest(self.registry)

    def serve(self, host: IPv4Address | IPv6Address, port: int) -> None:
        """Answers there until the process ends. Raises SystemExit if it can't."""
        kind = Server6 if host.version == 6 else Server
        try:
            server = make_server(str(host), port, make_wsgi_app(self.registry), kind, Handler)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            reason = f"METRICS_PORT: nothing can listen at {host}, port {port} ({why}), and {ALONE}"
            raise SystemExit(reason) from None
        threading.Thread(target=server.serve_forever, name="for Prometheus", daemon=True).start()
        if hasattr(os, "register_at_fork"):
            # Else the process of a job would keep the port when its worker is killed.
            os.register_at_fork(after_in_child=server.socket.close)


class Handler(WSGIRequestHandler):
    """What prometheus_client's own server lacks: there, whoever connects and says nothing keeps a thread and a
    connection of this process for ever."""

    timeout = PATIENCE_SECONDS

    def handle(self) -> None:
        with suppress(OSError):  # who asks has left, or says nothing
            super().handle()

    def log_message(self, *_: object) -> None:
        """Writes no line for each time that Prometheus comes."""


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Nobody shares the port, for each would be told of some. That of some versions of Python does, and on Windows each.
    allow_reuse_address = os.name == "posix"
    allow_reuse_port = False


class Server6(Server):
    address_family = socket.AF_INET6

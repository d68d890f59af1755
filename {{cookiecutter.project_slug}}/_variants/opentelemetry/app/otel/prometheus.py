"""The metrics in Prometheus's own format: for a route, or at a port of their own."""

import os
import socket
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, Metric, generate_latest, start_http_server
from prometheus_client.registry import Collector

ALONE = "each process that Prometheus asks needs a port of its own (by OTLP, any number of them may tell)"


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
        family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
        try:
            # First alone: the server of some versions of Python shares its port with others, and each would be told of
            # some.
            socket.create_server((str(host), port), family=family).close()
            server, _ = start_http_server(port, str(host), self.registry)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            reason = f"METRICS_PORT: nothing can listen at {host}, port {port} ({why}), and {ALONE}"
            raise SystemExit(reason) from None
        if hasattr(os, "register_at_fork"):
            # Else the process of a job would keep the port when its worker is killed.
            os.register_at_fork(after_in_child=server.socket.close)

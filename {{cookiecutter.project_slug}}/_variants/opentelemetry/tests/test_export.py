"""Metrics and traces leave a real server, and are what the test has counted."""

import json
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.otel.settings import TelemetrySettings
from tests.callers.knowing import ENV, HEADERS, TOKEN
from tests.otlp import Receiver, receiving, stalling
from tests.server import Serve, Server, free_port, serving

SECRET = "swordfish"
LONG = "word " * 5000  # at 0.05 s a word, longer than any test
FOR_EVER = "3600000"  # milliseconds
WAITING_SECONDS = 60


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def exporting(receiver: Receiver, server_env: dict[str, str]) -> Iterator[Server]:
    """A server that tells its metrics both ways."""
    with serving({**server_env, **ENV, **receiver.env, "METRICS": "prometheus", "ANSWER_GRACE_SECONDS": "0"}) as serve:
        yield serve("app.main:app", "--http", "h11")


def ask(server: Server, question: str = "hello", **headers: str) -> HTTPResponse:
    """Answers when the answer begins."""
    response = server.request("POST", "/chat/stream", json.dumps({"question": question}), HEADERS | headers)
    assert response.status == 200
    assert response.readline() == b"event: status\n"
    return response


def figure(receiver: Receiver, name: str) -> float | None:
    return next((point.value for point in receiver.points(name)), None)


def said_by_the_sdk(server: Server) -> list[str]:
    """In the log, each without its traceback, which it must not have."""
    lines = server.log.splitlines()
    said = [number for number, line in enumerate(lines) if " opentelemetry." in line]
    assert not [lines[number] for number in said if "Traceback" in "".join(lines[number + 1 : number + 2])]
    return [lines[number] for number in said]


def test_a_request_is_a_span_that_shows_nothing_of_a_question_or_a_key(exporting: Server, receiver: Receiver) -> None:
    exporting.request("GET", f"/stream?text={SECRET}", headers=HEADERS | {"X-Request-ID": "r-1"}).read()
    exporting.request("GET", "/stream?nothing", headers=HEADERS).read()
    ask(exporting, SECRET).read()
    receiver.until(lambda: receiver.spans("POST /chat/stream"), "the span of an answer's request")
    span = receiver.spans("GET /stream", http__response__status_code=200)[0]
    assert (span.kind, span.status, span.parent_id, span.attributes["url.query"]) == ("SERVER", "UNSET", "", "REDACTED")
    assert (span.resource["service.name"], bool(span.resource["service.instance.id"])) == (
        TelemetrySettings.model_fields["app_name"].default,
        True,
    )
    assert f"trace_id={span.trace_id}" in exporting.logged("uvicorn.access [r-1]")
    for word in (SECRET, TOKEN, "nothing"):
        assert word.encode() not in receiver.received


def test_a_trace_goes_on_from_the_browsers_request(exporting: Server, receiver: Receiver) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    ask(exporting, traceparent=f"00-{trace}-00f067aa0ba902b7-01").read()
    receiver.until(lambda: [span for span in receiver.spans() if span.parent_id == "00f067aa0ba902b7"], "its span")
    assert {span.trace_id for span in receiver.spans() if span.parent_id == "00f067aa0ba902b7"} == {trace}


def test_probes_are_no_spans_and_no_requests(exporting: Server, receiver: Receiver) -> None:
    for path in ("/health", "/ready", "/metrics"):
        exporting.request("GET", path, headers=HEADERS).read()
    exporting.request("GET", "/chat/stream/probe", headers=HEADERS).read()
    receiver.until(lambda: receiver.spans(url__path="/chat/stream/probe"), "the span of a request behind them")
    receiver.until_exported()
    routes = {point.attributes.get("http.route") for point in receiver.points("http.server.request.duration")}
    named = {span.attributes.get("url.path") for span in receiver.spans()}
    assert {"/health", "/ready", "/metrics"} & (routes | named) == set()


def test_requests_are_measured_up_to_minutes(exporting: Server, receiver: Receiver) -> None:
    about = {"http__route": "/chat/stream/{stream_id}", "http__request__method": "DELETE"}
    for number in range(3):
        exporting.request("DELETE", f"/chat/stream/{number}", headers=HEADERS).read()
    receiver.until(lambda: receiver.total("http.server.request.duration", **about) == 3, "three requests")
    (point,) = receiver.points("http.server.request.duration", **about)
    assert (point.bounds[0], point.bounds[-1], sum(point.buckets)) == (0.01, 600, 3)


def test_what_anybody_writes_makes_no_series_and_fills_no_memory(exporting: Server, receiver: Receiver) -> None:
    def series() -> int:
        return len(receiver.points("http.server.request.duration", http__response__status_code=401))

    exporting.connect("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").recv(1)
    receiver.until(series, "a refusal")
    before = series()
    long = "x" * 30_000
    for number in range(10):
        start = f"GET /{number}{long} HTTP/7.{number}\r\nHost: {number}{long}\r\nX-Forwarded-Proto: {number}\r\n"
        exporting.connect(f"{start}Connection: close\r\n\r\n").recv(1)
    exporting.request("GET", "/behind").read()
    receiver.until(lambda: receiver.spans(url__path="/behind"), "the span of a request behind them")
    receiver.until_exported()
    assert series() == before
    spans = [span for span in receiver.spans() if str(span.attributes.get("url.path")).endswith("x")]
    assert [(len(span.attributes["url.path"]), len(span.attributes["server.address"])) for span in spans] == [
        (1000, 1000)
    ] * 10
    assert b"x" * 1001 not in receiver.received


def test_figures_are_what_is_so(exporting: Server, receiver: Receiver) -> None:
    receiver.until(lambda: figure(receiver, "chat.streams.open") == 0, "nobody who reads")
    streams = [ask(exporting, LONG) for _ in range(3)]
    receiver.until(lambda: figure(receiver, "chat.answers.running") == 3, "three answers")
    receiver.until(lambda: figure(receiver, "chat.streams.open") == 3, "their readers")
    assert (figure(receiver, "server.connections.open") or 0) >= 3
    for stream in streams:
        stream.close()
    receiver.until(lambda: figure(receiver, "chat.answers.running") == 0, "the answers' end")
    receiver.until(lambda: figure(receiver, "chat.streams.open") == 0, "their readers' end")
    assert (figure(receiver, "server.draining"), figure(receiver, "server.drain.limit")) == (0, 5)
    assert figure(receiver, "event_loop.lag") is not None


def test_prometheus_is_told_the_same(exporting: Server, receiver: Receiver) -> None:
    assert exporting.request("GET", "/metrics").status == 401
    exporting.request("POST", "/feedback", "{}", HEADERS).read()
    response = exporting.request("GET", "/metrics", headers=HEADERS)
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(response.read().decode())}
    counted = {
        sample.labels["http_route"]: sample.value
        for sample in families["http_server_request_duration_seconds"].samples
        if sample.name.endswith("_count") and "http_route" in sample.labels
    }
    assert counted["/feedback"] == 1
    assert [sample.value for sample in families["chat_streams_open"].samples] == [0]
    receiver.until_exported()
    assert receiver.total("http.server.request.duration", http__route="/feedback") == 1


def test_what_was_not_sent_is_sent_at_the_end(serve: Serve, receiver: Receiver, tmp_path: Path) -> None:
    """And lines of `.env` count, but where the environment has another value."""
    (tmp_path / "env").write_text(
        f"OTEL_EXPORTER_OTLP_ENDPOINT={receiver.endpoint}\nOTEL_SERVICE_NAME=of the file\n"
        f"OTEL_BSP_SCHEDULE_DELAY=600000\nOTEL_METRIC_EXPORT_INTERVAL={FOR_EVER}\nOTEL_RESOURCE_ATTRIBUTES=team=chat\n"
    )
    server = serve("app.main:app", ENV_FILE=str(tmp_path / "env"), OTEL_SERVICE_NAME="late", DRAIN_SECONDS="1")
    ask(server).read()
    ask(server, LONG)
    assert [span for span in receiver.spans() if span.resource["service.name"] == "late"] == []
    server.stop()
    names = [span.name for span in receiver.spans() if span.resource["service.name"] == "late"]
    assert names.count("POST /chat/stream") == 2
    drained = [point for point in receiver.points("server.drain.duration") if point.resource["service.name"] == "late"]
    assert [(point.value > 0.5, point.resource["team"]) for point in drained] == [(True, "chat")]


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000])
def test_a_service_that_stands_still_delays_nothing_and_fills_no_memory(serve: Serve, drip: bytes) -> None:
    with stalling(drip) as (endpoint, taken):
        server = serve(
            "app.main:app",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_TIMEOUT=str(WAITING_SECONDS),
            OTEL_METRIC_EXPORT_INTERVAL="50",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
            ECHO_TOKEN_SECONDS="0.001",
        )
        server.seconds("/stream?text=a")
        deadline = time.monotonic() + WAITING_SECONDS
        while len(taken) < 2 and time.monotonic() < deadline:
            server.seconds("/stream?text=a")
        assert len(taken) >= 2  # both are stuck
        assert max(server.seconds("/stream?text=a") for _ in range(30)) < WAITING_SECONDS / 4
        server.logged("Queue full")
        server.stop()
    assert server.stopped < WAITING_SECONDS / 4
    assert server.process.returncode in (0, -15)  # not killed
    assert 1 <= len(said_by_the_sdk(server)) <= 4


def test_a_service_that_is_away_is_told_of_a_few_times(serve: Serve) -> None:
    server = serve(
        "app.main:app",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        OTEL_EXPORTER_OTLP_TIMEOUT="0.01",  # so there are many batches
        OTEL_METRIC_EXPORT_INTERVAL="20",
        OTEL_BSP_SCHEDULE_DELAY="20",
    )
    for _ in range(20):
        server.seconds("/stream?text=a")
    server.logged("Failed to export")
    server.stop()
    assert 1 <= len(said_by_the_sdk(server)) <= 6


def test_without_an_address_nothing_is_set_up(serve: Serve) -> None:
    server = serve("app.main:app")
    server.request("GET", "/stream?text=a").read()
    assert said_by_the_sdk(server) == []
    assert "OTEL" not in server.log

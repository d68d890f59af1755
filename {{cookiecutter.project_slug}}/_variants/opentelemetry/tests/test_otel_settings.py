"""The settings of telemetry: those of OpenTelemetry are looked at before its SDK reads them."""

import os
import signal
import subprocess
import sys

import pytest

from app.otel.settings import TelemetrySettings
from app.settings import PROJECT
from tests.server import ROOT, free_port

KEY = "kept-secret"
WITH_FORKS = pytest.mark.skipif(sys.platform == "win32", reason="Windows forks no process")
WORKER = "from app import telemetry; telemetry.set_up_worker('INFO', 'text'); "


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METRICS", "statsd"),
        ("METRICS_PORT", "65536"),
        ("METRICS_HOST", "localhost"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"localhost:4318/{KEY}"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"grpc://{KEY}"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://user:{KEY}"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"authorization: Bearer {KEY}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"a=b,{KEY}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"a=b\nc={KEY}"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "no/such/file"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "1"),  # it would record nothing
    ],
)
def test_a_bad_value_stops_the_start_with_the_settings_name_and_does_not_show_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"(?m)^{name}: ") as stopped:
        TelemetrySettings.read()
    assert KEY not in str(stopped.value)


@pytest.mark.parametrize(
    ("environment", "traces", "metrics", "scraped"),
    [
        ({}, False, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True, True, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://a/v1/traces"}, True, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "None"}, False, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_METRICS_EXPORTER": "none"}, True, False, False),
        ({"METRICS": "prometheus"}, False, False, True),
        ({"METRICS": "prometheus", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, True, True, True),
        ({"METRICS": "prometheus", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"},)
        + (False,) * 3,
    ],
)
def test_what_is_exported(
    environment: dict[str, str], traces: bool, metrics: bool, scraped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = TelemetrySettings.read()
    assert (settings.exports_traces, settings.exports_metrics, settings.is_scraped) == (traces, metrics, scraped)


def test_headers_and_attributes_may_hold_what_services_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a==, x-api-key=k_1/+~: ,X-Empty=\n")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app.kubernetes.io/name=x,team=Ü y=z")
    assert not TelemetrySettings.read().has_a_service_name
    assert os.environ["OTEL_EXPORTER_OTLP_HEADERS"].endswith("X-Empty=")  # what the SDK reads
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=chat,service.name=mine")
    assert TelemetrySettings.read().has_a_service_name


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A worker, or what there is of one here."""
    settings = {**os.environ, "METRICS": "prometheus", **environment}
    worker = [sys.executable, "-c", WORKER + code]
    return subprocess.run(worker, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)


def test_a_bad_value_that_only_the_sdk_knows_stops_the_start_too() -> None:
    elsewhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "METRICS": "none"}
    failed = run("", OTEL_METRICS_EXEMPLAR_FILTER="often", **elsewhere)
    assert (failed.returncode, failed.stderr.startswith("OTEL_*: Unknown exemplar filter")) == (1, True), failed.stderr
    assert run("", OTEL_BSP_MAX_QUEUE_SIZE="1", OTEL_EXPORTER_OTLP_TIMEOUT="0.1", **elsewhere).returncode == 0


def test_an_empty_value_is_none_to_the_sdk_too() -> None:
    """As compose passes on what the shell does not have."""
    empty = dict.fromkeys(["OTEL_METRICS_EXEMPLAR_FILTER", "OTEL_BSP_SCHEDULE_DELAY"], "")
    done = run("", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", METRICS="none", **empty)
    assert (done.returncode, "OTEL_" in done.stderr) == (0, False), done.stderr


def test_a_worker_that_prometheus_can_not_ask_says_so() -> None:
    """It runs jobs all the same: of the web server, `make dev` shows the metrics with no more than METRICS."""
    done = run("")
    assert done.returncode == 0
    assert "Prometheus can't ask this worker" in done.stderr


def test_two_on_one_host_need_a_port_each() -> None:
    """With a second one at the same port, each would be told of half of the time."""
    port = str(free_port())
    code = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"
    failed = subprocess.run(
        [sys.executable, "-c", WORKER + code, WORKER],
        cwd=ROOT,
        env={**os.environ, "METRICS": "prometheus", "METRICS_PORT": port},
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert f"METRICS_PORT: nothing can listen at 127.0.0.1, port {port} (" in failed.stderr


WAITS_FOR_ONE = """
from urllib.request import urlopen
while 'jobs_accepted_total{task="a"} 1.0' not in (told := urlopen(f"http://127.0.0.1:{PORT}/metrics").read().decode()):
    pass
print(told)
"""


ONE = "telemetry.job_accepted('a', '1')"
ONE_OF_A_FORK = pytest.param(f"os.fork() or ({ONE}, os._exit(0))", marks=WITH_FORKS, id="of a fork")


@pytest.mark.parametrize("counts", [ONE, ONE_OF_A_FORK])
def test_a_worker_tells_at_its_port_what_it_and_its_forks_have_counted(counts: str) -> None:
    port = str(free_port())
    told = run(f"import os; PORT = {port}; {counts}\n{WAITS_FOR_ONE}", METRICS_PORT=port)
    assert told.returncode == 0, told.stderr
    assert f'service_name="{PROJECT}-worker"' in told.stdout


@WITH_FORKS
def test_the_process_of_a_job_does_not_keep_the_port_of_a_worker_that_was_killed() -> None:
    port = str(free_port())
    killed = run(
        "import os, signal, time; pid = os.fork(); pid or (os.close(1), os.close(2), time.sleep(60)); "
        "print(pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)",
        METRICS_PORT=port,
    )
    try:
        again = run("", METRICS_PORT=port)
    finally:
        os.kill(int(killed.stdout), signal.SIGKILL)
    assert (killed.returncode, again.returncode) == (-signal.SIGKILL, 0), again.stderr

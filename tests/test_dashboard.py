"""The dashboard and the alerts of a project with telemetry, by Prometheus itself: each alert fires when it should, and
each panel shows something of a server and a worker that run."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from needs import NEEDS
from prometheus import Prometheus, prometheus
from rendering import Project, run
from running import START_SECONDS, Server, free_port, posix_only, python_of, running, services, serving
from telling import ask, read_again, read_some, reason, serving_model
from variants import VARIANTS

DEPLOY = VARIANTS / "opentelemetry" / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALICE, BOB = "alice-s-own-key", "bob-s-own-key"
MOST = 2  # answers of a caller at a time
WINDOW = "10s"  # in place of what Grafana makes of the time that it shows
METRIC = re.compile(r"[a-z]+_[a-z_]+(?=[{)\[])")


@pytest.mark.needs("promtool")
def test_each_alert_begins_and_ends_when_it_should(tmp_path: Path) -> None:
    """tests/alerts.yaml says when."""
    for path in (DEPLOY / "prometheus-rules.yaml", Path(__file__).with_name("alerts.yaml")):
        shutil.copy(path, tmp_path)
    promtool = str(NEEDS["promtool"].path())
    for command in (("check", "rules", "prometheus-rules.yaml"), ("test", "rules", "alerts.yaml")):
        done = run(promtool, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test() -> None:
    tested = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text("utf-8"))["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if "exp_alerts" in case}
    assert fired == {rule["alert"] for rule in rules()}


def test_the_dashboard_can_be_imported() -> None:
    """It asks for a data source, and its panels stand beside each other, each with an id of its own."""
    assert [each["type"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "query"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text("utf-8"))["groups"]
    return list(group["rules"])


def queries(project: Project) -> set[str]:
    """Of all panels, as Grafana would send them; what each alert asks for; and each metric of the README's table."""
    shown = {target["expr"] for panel in PANELS for target in panel["targets"]}
    filled_in = {expr.replace("$__rate_interval", WINDOW).replace("$job", ".*") for expr in shown}
    asked_for = {name for rule in rules() for name in METRIC.findall(rule["expr"])}
    return filled_in | {f"count({name})" for name in asked_for} | set(map(told, metrics(project)))


def metrics(project: Project) -> set[str]:
    """Those of which the README says what they measure."""
    table = re.search(r"^### What is measured\n\n((\|.*\n)+)", project.read("README.md"), re.MULTILINE)
    assert table
    rows = re.findall(r"^\| (`.*?) \|", table[1], re.MULTILINE)
    return {name for row in rows for name in re.findall("`([a-z_.]+)`", row)}


def told(metric: str) -> str:
    """Asks for it by what Prometheus may call it."""
    return f'count({{__name__=~"{metric.replace(".", "_")}(_seconds)?(_total|_count)?"}})'


@pytest.mark.slow
@posix_only
@pytest.mark.needs("prometheus")
def test_each_panel_shows_something_of_a_server_and_a_worker_that_run(
    render: Callable[..., Project], tmp_path: Path
) -> None:
    """Each answer, reader, refusal and job that there can be happens again and again, until all are seen. Then a server
    is killed, and another one tells that its answers are lost; and that one tells what it does while it stops.

    The README explains each metric, and no other is there but Prometheus's own."""
    project = render(queue_backend="rq", model_provider="anthropic", front_end="openai", telemetry="opentelemetry")
    project.sync()
    ports = {name: free_port() for name in ("web", "worker", "other")}
    with ExitStack() as stack:
        env = stack.enter_context(services(project))
        model = stack.enter_context(serving_model())
        env |= model.settings(project) | {
            "API_KEYS": f"alice:{ALICE},bob:{BOB}",
            "MAX_ANSWERS_PER_CALLER": str(MOST),
            "ANSWER_GRACE_SECONDS": "0",
            "DRAIN_SECONDS": "600",
            "METRICS": "prometheus",
        }
        server = stack.enter_context(serving(project, env, METRICS_PORT=str(ports["web"])))
        other = stack.enter_context(serving(project, env, METRICS_PORT=str(ports["other"])))
        command = (python_of(project), "-m", "app.worker")
        of_worker = env | {"METRICS_PORT": str(ports["worker"])}
        worker = stack.enter_context(running(*command, cwd=project.path, env=of_worker))
        seen = stack.enter_context(prometheus(tmp_path / "prometheus", ports))
        held = [ask(server, then="wait", key=ALICE) for _ in range(MOST)]
        lost, stops = (
            {query for query in queries(project) if name in query}
            for name in ("chat_answers_lost", "server_drain_duration")
        )
        until_shown(seen, queries(project) - lost - stops, lambda: happen(server))
        offered = re.fullmatch(r"label_values\((.*), job\)", DASHBOARD["templating"]["list"][1]["query"])
        assert offered
        assert {series["metric"]["job"] for series in seen.ask(f"count by (job) ({offered[1]})")} == ports.keys()
        server.process.stop(signal.SIGKILL)
        assert [reason(read_again(other, answer, ALICE)) for answer in held] == ["error"] * MOST
        until_shown(seen, lost | {f"sum(chat_answers_lost_total) == {MOST}"}, lambda: None)
        with closing(ask(other, then="wait", key=ALICE)) as answer:
            read_some(answer)
            other.process.send(signal.SIGTERM)
            until_shown(seen, stops, lambda: None)
            explained = "|".join(name.replace(".", "_") for name in metrics(project))
            assert seen.ask(f'{{job=~".+", __name__!~"({explained}|scrape|python|process|target)(_.*)?|up"}}') == []
        other.process.wait()
        assert worker.stop() == 0


def happen(server: Server) -> None:
    """What there are figures of."""
    answer = ask(server, key=BOB)
    assert reason(answer) == "end"
    assert reason(read_again(server, answer, BOB)) == "end"
    assert reason(ask(server, then="fail", key=BOB)) == "error"
    with closing(ask(server, then="wait", key=BOB)) as left:
        read_some(left)
    assert ask(server, key=ALICE).status == 429
    document = json.dumps({"title": "A tale", "text": "to be or not to be"})
    assert server.request("POST", "/documents", document, {"Authorization": f"Bearer {BOB}"}).status == 202


def until_shown(prometheus: Prometheus, queries: set[str], again: Callable[[], None]) -> None:
    left, deadline = set(queries), time.monotonic() + START_SECONDS
    while left:
        assert time.monotonic() < deadline, f"nothing is shown by {sorted(left)}"
        again()
        time.sleep(0.5)
        left = {query for query in left if not prometheus.ask(query)}

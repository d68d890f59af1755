"""The benchmarks run, and measure what they say: no figure of theirs is judged here."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
from rendering import ROOT, Project, choices, environment
from running import posix_only

DRAWN = ("streaming.py", "jobs.py")
MEASURE = (*DRAWN, "route.py")
BY_HAND = {"streaming_response", "sse_starlette", "fastapi_sse"}
MODELS = ("openai", "anthropic")
CONTESTANTS = {"raw", "bare", "streaming_response", "fastapi_sse", "sse_starlette", "ours", "ours_httptools"}
SITUATIONS = {"sigterm", "finally", "never-suspends", "raises", "silence"}
METRICS = {"cpu", "growth", "idle", "first-event"}
OURS_ALONE = {"ours"}  # a figure that a library called bare cannot have
BARE = {"rq": "rq", "celery-redis": "celery", "dramatiq-redis": "dramatiq"}
BARE |= {"celery-rabbitmq": "celery", "dramatiq-rabbitmq": "dramatiq"}
QUEUES = [pytest.param(queue, marks=pytest.mark.needs("rabbitmq") if "rabbitmq" in queue else ()) for queue in BARE]
# Their library and their broker are measured by every metric with another one: one metric shows that they go together.
BY_ONE_METRIC = {"celery-rabbitmq": "run", "dramatiq-redis": "run"}
QUICK_SECONDS = 180.0  # some 10 to 20 on a machine that does nothing else
STOP_SECONDS = 30.0


def who_has(queue: str) -> dict[str, list[set[str]]]:
    """Who has each of a metric's figures, but for how soon the job of a killed worker runs again: not all see that."""
    both, threads = {BARE[queue], "ours"}, {"rq_threads"} if queue == "rq" else set()
    in_redis = OURS_ALONE if "rabbitmq" in queue else both
    who = {"accept": [*[both] * 2, *[in_redis] * 3, *[OURS_ALONE] * 4], "run": [both] * 2, "kill": [both] * 2}
    if queue in ("rq", "celery-redis"):
        who["posts"] = [both | threads] * 6
    if queue == "rq":
        who |= {"attempt": [OURS_ALONE] * 3, "wait": [both, *[OURS_ALONE] * 2], "follow": [OURS_ALONE] * 2}
    if not Path("/proc/self/stat").exists():  # where the CPU of a session is
        who["run"].pop()
    return {metric: figures for metric, figures in who.items() if metric == BY_ONE_METRIC.get(queue, metric)}


def benchmark(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command where it lies: what Python compiles on the way must not get into the copy of other tests."""
    process = subprocess.Popen(
        [sys.executable, f"benchmarks/{program}", *options],
        cwd=ROOT,
        env=environment({"API_KEY": "not for the benchmark's servers"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        stdout, stderr = process.communicate(timeout=QUICK_SECONDS)
    except BaseException:
        process.terminate()  # not killed: it stops all that it has started
        process.communicate(timeout=STOP_SECONDS)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def copied(project: Project, to: Path) -> None:
    """What comes out of the template, for the benchmark to add tasks to; its environment is the same."""
    project.sync()
    for name in [*project.files(), "uv.lock"]:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.path / name, to / name)
    (to / ".venv").symlink_to(project.path / ".venv")


@pytest.mark.slow
@posix_only
def test_the_streaming_benchmark_measures_every_contestant_by_every_metric() -> None:
    """With --json, stdout is one JSON document: a positive figure of each kind for each contestant in each round."""
    done = benchmark("streaming.py", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["machine"]["cores"] >= 1
    assert {"Python", "fastapi", "sse-starlette", "uvicorn"} <= report["machine"]["versions"].keys()
    assert {figure["metric"] for figure in report["figures"]} == METRICS
    assert len({figure["figure"] for figure in report["figures"]}) == len(report["figures"]) == 6 + 10 + 3 + 2
    for figure in report["figures"]:
        assert figure["values"].keys() == figure["rounds"].keys() == CONTESTANTS, figure
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure
        assert all(value > 0 for value in figure["values"].values()), figure
        if figure["metric"] != "growth" or figure["unit"] != "x":
            assert figure["ratios_to_streaming_response"]["streaming_response"] == 1, figure
            assert figure["ratios_of_ours_to"]["ours"] == 1, figure


@pytest.mark.slow
@posix_only
def test_a_flood_is_measured_beside_another_callers_answers() -> None:
    done = benchmark("abuse.py", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    ((connections, figures),) = report["figures"].items()
    assert connections == "20"
    assert figures["refused"] > report["requests"] * 0.8
    assert all(figure > 0 for figure in figures.values())


@pytest.mark.slow
@posix_only
def test_what_is_seen_of_this_template_is_what_the_readme_says() -> None:
    """With --json, stdout is one JSON document: each contestant in each situation; of the others nothing is judged."""
    done = benchmark("behaviour.py", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert {"Python", "fastapi", "sse-starlette", "uvicorn"} <= report["machine"]["versions"].keys()
    assert report["seen"].keys() == SITUATIONS
    assert all(each.keys() == CONTESTANTS - {"raw", "bare", "ours_httptools"} for each in report["seen"].values()), (
        report
    )
    ours = {situation: each["ours"] for situation, each in report["seen"].items()}
    assert (ours["sigterm"]["ending"], ours["sigterm"]["events"][-2:]) == ("whole", ["error", "done"])
    assert ours["sigterm"]["exited"]
    assert ours["finally"]["ran"]
    assert ours["never-suspends"]["ran"]
    assert ours["never-suspends"]["answers"]
    assert (ours["raises"]["ending"], ours["raises"]["events"]) == ("whole", ["error", "done"])
    assert (ours["silence"]["ending"], ours["silence"]["sent"][:1]) == ("open", ":")


@pytest.mark.needs("chromium")
def test_what_the_pages_markdown_takes_is_measured() -> None:
    measured = json.loads(benchmark("page.py", "--quick", "--json").stdout)
    names = {figure["name"] for figure in measured["figures"]}
    assert names == {"a piece at the beginning", "a piece at the end", "the longest piece"}
    for figure in measured["figures"]:
        assert set(figure["rounds"]) == {"text", "ours", "anew"}


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("queue", QUEUES)
def test_the_jobs_benchmark_measures_every_contestant_by_every_metric(
    queue: str, render: Callable[..., Project], tmp_path: Path
) -> None:
    """A report for each queue: a figure of each kind for each contestant that can have one, positive but for losses."""
    copied(render(queue_backend=queue), tmp_path / queue / "my-chat")
    only = ("--only", BY_ONE_METRIC[queue]) if queue in BY_ONE_METRIC else ()
    done = benchmark("jobs.py", "--quick", "--json", "--queue", queue, "--projects", str(tmp_path), *only)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    bare = BARE[queue]
    assert (report["queue"], report["baseline"]) == (queue, bare)
    assert {"Python", bare, "redis", "Valkey"} <= report["machine"]["versions"].keys()
    assert ("rabbitmq" in queue) == ("RabbitMQ" in report["machine"]["versions"])
    found: dict[str, list[set[str]]] = {}
    for figure in report["figures"]:
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure
        if figure["metric"] == "kill" and figure["unit"] == "s":
            continue
        found.setdefault(figure["metric"], []).append(set(figure["values"]))
        least = 0 if figure["metric"] == "kill" else 1e-9
        assert all(value >= least for value in figure["values"].values()), figure
        if figure["metric"] != "kill" and figure["unit"] and bare in figure["values"]:
            assert figure["ratios"][bare] == 1, figure
            assert figure["ratios"]["ours"] > 0, figure
    assert {metric: sorted(map(sorted, who)) for metric, who in found.items()} == {
        metric: sorted(map(sorted, who)) for metric, who in who_has(queue).items()
    }


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("model", MODELS)
def test_the_whole_route_is_measured_for_every_contestant(
    model: str, render: Callable[..., Project], tmp_path: Path
) -> None:
    """From a model's service to the reader: a positive figure of each kind for each contestant in each round. What an
    idle answer takes is asked of all servers in the same way: those of one model are enough."""
    copied(render(model_provider=model), tmp_path / model / "my-chat")
    metrics = ["cpu"] * 3 if model != MODELS[0] else ["idle", *["cpu"] * 3]
    only = () if "idle" in metrics else ("--only", "cpu")
    done = benchmark("route.py", "--quick", "--json", "--provider", model, "--projects", str(tmp_path), *only)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["provider"] == model
    assert {"Python", model, "fastapi", "sse-starlette", "uvicorn"} <= report["machine"]["versions"].keys()
    assert [figure["metric"] for figure in report["figures"]] == metrics
    for figure in report["figures"]:
        assert figure["values"].keys() == figure["rounds"].keys() == BY_HAND | OURS_ALONE, figure
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure
        assert all(value > 0 for value in figure["values"].values()), figure
        assert figure["ratios"]["streaming_response"] == 1, figure
        assert figure["ratios"]["ours"] > 0, figure


@pytest.mark.slow
@posix_only
def test_answers_in_redis_are_measured_beside_those_in_memory(render: Callable[..., Project], tmp_path: Path) -> None:
    """A figure of each kind in each round; what only Redis costs has none in memory."""
    for contestant, queue in (("memory", "none"), ("redis", "rq")):
        copied(render(queue_backend=queue), tmp_path / contestant / "my-chat")
    done = benchmark("streaming.py", "--quick", "--json", "--only", "redis", "--projects", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"Python", "fastapi", "redis", "uvicorn"} <= report["machine"]["versions"].keys()
    in_redis, both = {"redis"}, {"memory", "redis"}
    assert [(figure["metric"], set(figure["values"])) for figure in report["figures"]] == [
        ("idle", in_redis),
        *[("writing", who) for who in (both, both, both, in_redis, in_redis)],
        *[("reading", who) for who in (both, in_redis)],
    ]
    for figure in report["figures"]:
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure


@pytest.mark.slow
@posix_only
def test_what_telemetry_costs_is_measured(render: Callable[..., Project], tmp_path: Path) -> None:
    """A figure of each kind for each project and for FastAPI's own in each round; how much more than none each takes;
    and how much more than FastAPI's own."""
    for telemetry in choices("telemetry"):
        copied(render(queue_backend="none", telemetry=telemetry), tmp_path / f"telemetry-{telemetry}" / "my-chat")
    done = benchmark("streaming.py", "--quick", "--json", "--only", "telemetry", "--projects", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    each, more = {*choices("telemetry"), "fastapi"}, {"fastapi", "opentelemetry"}
    assert [set(figure["values"]) for figure in report["figures"]] == [each, more, {"opentelemetry"}] * 3
    # All but the first are differences: of measures as short as these, on a busy machine, some are below nothing.
    assert all(value > 0 for value in report["figures"][0]["values"].values())
    assert all(isfinite(value) for figure in report["figures"] for value in figure["values"].values())
    for figure in report["figures"]:
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure


@pytest.mark.parametrize("model", choices("model_provider"))
def test_each_model_that_can_be_chosen_is_measured(model: str) -> None:
    """But for that which no service stands behind, and for an agent: what it takes is its library's."""
    assert (model in MODELS) == (model not in ("echo", "pydantic-ai"))


@pytest.mark.parametrize("queue", choices("queue_backend"))
def test_each_queue_that_can_be_chosen_is_measured(queue: str) -> None:
    """But for that which needs no other process, and so has no costs of one."""
    assert (queue in BARE) == (queue != "none")


@posix_only
@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        *((program, ["--rounds", "0"], "must be a whole number from 1 to 100, not '0'") for program in MEASURE),
        *((program, ["--plot", "nowhere/figures.png"], "must be a .png file in a folder that") for program in DRAWN),
        *((program, ["--only", "speed"], "invalid choice: 'speed'") for program in (*MEASURE, "behaviour.py")),
    ],
)
def test_a_bad_option_is_refused_by_its_name(program: str, options: list[str], message: str) -> None:
    """Before anything is measured, with the status of a wrong usage."""
    done = benchmark(program, *options)
    assert done.returncode == 2
    assert f"argument {options[0]}: {message}" in done.stderr
    assert done.stdout == ""

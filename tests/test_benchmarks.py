"""The benchmarks run, and measure what they say: no figure of theirs is judged here."""

import json
import subprocess
import sys
from typing import Any

import pytest
from rendering import ROOT, environment
from running import posix_only

CONTESTANTS = {"raw", "bare", "streaming_response", "fastapi_sse", "sse_starlette", "ours"}
METRICS = {"cpu", "growth", "idle", "first-event"}
OURS_ALONE = {"ours"}  # a figure that a library called bare cannot have
JOB_METRICS: dict[str, list[set[str]]] = {  # who has each of a metric's figures
    "accept": [*[{"rq", "ours"}] * 5, *[OURS_ALONE] * 4],
    "posts": [{"rq", "rq_threads", "ours"}] * 6,
    "run": [{"rq", "ours"}] * 2,
    "wait": [{"rq", "ours"}, *[OURS_ALONE] * 2],
    "follow": [OURS_ALONE] * 2,
}
QUICK_SECONDS = 180.0  # some 20 or 30 on a machine that does nothing else


def benchmark(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command where it lies: what Python compiles on the way must not get into the copy of other tests."""
    return subprocess.run(
        [sys.executable, f"benchmarks/{program}", *options],
        cwd=ROOT,
        env=environment({"API_KEY": "not for the benchmark's servers"}),
        capture_output=True,
        encoding="utf-8",
        timeout=QUICK_SECONDS,
    )


@posix_only
def test_the_streaming_benchmark_measures_every_contestant_by_every_metric() -> None:
    """With --json, stdout is one JSON document: a positive figure of each kind for each contestant in each round."""
    done = benchmark("streaming.py", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["machine"]["cores"] >= 1
    assert {"Python", "fastapi", "sse-starlette", "uvicorn"} <= report["machine"]["versions"].keys()
    assert {figure["metric"] for figure in report["figures"]} == METRICS
    assert len({figure["figure"] for figure in report["figures"]}) == len(report["figures"]) == 4 + 10 + 3 + 2
    for figure in report["figures"]:
        assert figure["values"].keys() == figure["rounds"].keys() == CONTESTANTS, figure
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure
        assert all(value > 0 for value in figure["values"].values()), figure
        if figure["metric"] != "growth" or figure["unit"] != "x":
            assert figure["ratios_to_streaming_response"]["streaming_response"] == 1, figure
            assert figure["ratios_of_ours_to"]["ours"] == 1, figure


@posix_only
def test_the_jobs_benchmark_measures_every_contestant_by_every_metric() -> None:
    """A report for each queue: a positive figure of each kind for each contestant that can have one."""
    done = benchmark("jobs.py", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert (report["queue"], report["baseline"]) == ("rq", "rq")
    assert {"Python", "rq", "redis", "Valkey"} <= report["machine"]["versions"].keys()
    found: dict[str, list[set[str]]] = {metric: [] for metric in JOB_METRICS}
    for figure in report["figures"]:
        found[figure["metric"]].append(set(figure["values"]))
        assert all(len(values) == report["sizes"]["rounds"] == 1 for values in figure["rounds"].values()), figure
        assert all(value > 0 for value in figure["values"].values()), figure
        assert figure["ratios"].get("rq", 1) == 1, figure
        assert "rq" not in figure["values"] or figure["ratios"]["ours"] > 0, figure
    assert {metric: sorted(map(sorted, who)) for metric, who in found.items()} == {
        metric: sorted(map(sorted, who)) for metric, who in JOB_METRICS.items()
    }


@posix_only
@pytest.mark.parametrize("program", ["streaming.py", "jobs.py"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "must be a whole number from 1 to 100, not '0'"),
        (["--only", "speed"], "invalid choice: 'speed'"),
        (["--plot", "no-such-folder/figures.png"], "must be a .png file in a folder that exists"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(program: str, options: list[str], message: str) -> None:
    """Before anything is measured, with the status of a wrong usage."""
    done = benchmark(program, *options)
    assert done.returncode == 2
    assert f"argument {options[0]}: {message}" in done.stderr
    assert done.stdout == ""

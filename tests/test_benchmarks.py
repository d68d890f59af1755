"""The benchmarks run, and measure what they say: no figure of theirs is judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rendering import environment
from running import posix_only

CONTESTANTS = {"raw", "bare", "streaming_response", "fastapi_sse", "sse_starlette", "ours"}
METRICS = {"cpu", "growth", "idle", "first-event"}
QUICK_SECONDS = 120.0  # some 20 on a machine that does nothing else


def benchmark(template: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a clone would."""
    return subprocess.run(
        [sys.executable, "benchmarks/streaming.py", *options],
        cwd=template,
        env=environment({"API_KEY": "not for the benchmark's servers"}),
        capture_output=True,
        encoding="utf-8",
        timeout=QUICK_SECONDS,
    )


@posix_only
def test_the_streaming_benchmark_measures_every_contestant_by_every_metric(template: Path) -> None:
    """With --json, stdout is one JSON document: a positive figure of each kind for each contestant in each round."""
    done = benchmark(template, "--quick", "--json")
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
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "must be a whole number from 1 to 100, not '0'"),
        (["--only", "speed"], "invalid choice: 'speed'"),
        (["--plot", "no-such-folder/figures.png"], "must be a .png file in a folder that exists"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(options: list[str], message: str, template: Path) -> None:
    """Before anything is measured, with the status of a wrong usage."""
    done = benchmark(template, *options)
    assert done.returncode == 2
    assert f"argument {options[0]}: {message}" in done.stderr
    assert done.stdout == ""

"""What the benchmarks share: figures, how they are printed and drawn, and the processes that are measured."""

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

import sessions

PRINTED_LINES = 20
SPARE_DESCRIPTORS = 200
BEGAN = time.monotonic()
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
Running = tuple[subprocess.Popen[bytes], Callable[[], str]]  # a process, and what reads its standard error


class TroubleError(Exception):
    """What went wrong, in one sentence."""


@dataclass
class Figure:
    """One line of the table: each contestant's value in each round."""

    metric: str
    name: str
    unit: str
    baseline: str
    compared: bool = True  # whether a ratio to the baseline says anything
    target: str = ""
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def value(self, contestant: str) -> float:
        return statistics.median(self.rounds[contestant])

    def ratio(self, contestant: str, other: str = "") -> float | None:
        """The median of the rounds' own ratios, to the baseline or another; None where there is nothing to compare."""
        ours, others = self.rounds.get(contestant), self.rounds.get(other or self.baseline)
        if not self.compared or not ours or not others or not all(others):
            return None
        return statistics.median([a / b for a, b in zip(ours, others, strict=True)])

    def cell(self, contestant: str) -> str:
        if contestant not in self.rounds:
            return "-"
        ratio = self.ratio(contestant)
        return short(self.value(contestant)) + (f" ({ratio:.2f}x)" if ratio is not None else "")

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


class Figures(dict[tuple[str, str], Figure]):
    def __init__(self, baseline: str) -> None:
        super().__init__()
        self._baseline = baseline

    def add(
        self,
        metric: str,
        name: str,
        unit: str,
        contestant: str,
        value: float,
        *,
        compared: bool = True,
        target: str = "",
    ) -> None:
        figure = self.setdefault((metric, name), Figure(metric, name, unit, self._baseline, compared, target))
        figure.rounds.setdefault(contestant, []).append(value)


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown, its first column to the left."""
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return [lines[0], f"|---|{'---:|' * (len(head) - 1)}", *lines[1:]]


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGAN:5.1f} s  {line}", file=sys.stderr, flush=True)


def machine(versions: Mapping[str, str]) -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
        cpu = found[1] if found else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "versions": dict(versions)}


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Of this Python and of what it can import."""
    return {"Python": platform.python_version()} | {name: importlib.metadata.version(name) for name in libraries}


def environment(project: Path) -> dict[str, str]:
    """This process's environment without what it may happen to hold for an application like the emitted one."""
    settings = re.findall(r"^[# ]*([A-Z_]+)=", (project / ".env.example").read_text("utf-8"), re.MULTILINE)
    kept = {name: value for name, value in os.environ.items() if name not in {*settings, "PYTHONPATH"}}
    return kept | {"API_KEY": ""}


def has_printed(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it prints a line, or ends, within this time."""
    assert process.stdout
    return bool(select.select([process.stdout], [], [], seconds)[0])


def line_of(process: subprocess.Popen[bytes], seconds: float) -> str:
    """The next line that it prints; empty when none comes in this time, or it ended."""
    assert process.stdout
    return process.stdout.readline().decode().strip() if has_printed(process, seconds) else ""


@contextmanager
def started(
    command: Sequence[object],
    env: Mapping[str, str],
    cwd: Path | None = None,
    *,
    talks: bool = True,
    session: bool = False,
) -> Iterator[Running]:
    """Run a program, away from any `.env` unless there is a `cwd`; give it, and what reads its standard error.

    Where it `talks`, its standard output is to be read, for it waits once the pipe is full. On request it has a session
    of its own: all that it starts ends with it.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=cwd or folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if talks else errors,
            stderr=errors,
            bufsize=0,  # so that what `select` says of standard output holds
            start_new_session=session,
        )
        try:
            yield process, partial(_printed, errors)
        finally:
            if session:
                sessions.kill(process.pid)
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                pipe.close()


def _printed(errors: IO[bytes]) -> str:
    errors.seek(0)
    return "\n".join(errors.read().decode(errors="replace").splitlines()[-PRINTED_LINES:])


def allow_descriptors(number: int) -> None:
    """Raise this process's own limit, which its servers inherit; raises TroubleError where that is not allowed."""
    import resource

    needed = SPARE_DESCRIPTORS + number
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise TroubleError(
            f"{needed:,} open files are needed, and {hard:,} allowed: raise `ulimit -Hn`, or use --quick"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@dataclass(frozen=True)
class Panel:
    """A part of a picture: each figure a line, each contestant a dot on it, as a multiple of the baseline.

    `dots` has the label, the colour and the size of each contestant's. Those of one label are the same in all panels.
    """

    figures: Iterable[Figure]
    dots: Mapping[str, tuple[str, str, int]]
    baseline: str
    title: str = ""

    @property
    def rows(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.compared and figure.unit and len(figure.rounds) > 1]


def plot(panels: Sequence[Panel], about: Mapping[str, Any], to: Path, note: str = "less is better") -> None:
    """One picture: the panels one below the other, over the same scale."""
    matplotlib = importlib.import_module("matplotlib")  # absent from the environment of the tests, and of their types
    matplotlib.use("agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    heights = [len(panel.rows) for panel in panels]
    canvas, grid = pyplot.subplots(
        len(panels),
        figsize=(11, 1.6 + 0.3 * sum(heights) + 0.5 * (len(panels) - 1)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    places = [axes for (axes,) in grid]
    labelled: dict[str, Any] = {}
    for panel, axes in zip(panels, places, strict=True):
        for name, (label, colour, size) in panel.dots.items():
            found = [(ratio, place) for place, row in enumerate(panel.rows) if (ratio := row.ratio(name)) is not None]
            where = ([ratio for ratio, _ in found], [place for _, place in found])
            labelled.setdefault(label, axes.scatter(*where, size, colour, label=label, zorder=3))
        axes.axvline(1, color=panel.dots[panel.baseline][1], linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}x")
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)
        axes.set_yticks(range(len(panel.rows)), [row.name for row in panel.rows], fontsize=9)
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.grid(color="#e5e5e5")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params("x", labelsize=8)
    canvas.legend(labelled.values(), labelled, ncols=len(labelled), loc="outside upper center", frameon=False)
    label = panels[0].dots[panels[0].baseline][0]
    places[-1].set_xlabel(f"times {label} ({note})\n{about['cpu']}, {about['cores']} cores", fontsize=9)
    canvas.savefig(to, dpi=150, bbox_inches="tight")


def positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 100, not {text!r}")
    return int(text)


def picture(text: str) -> Path:
    target = Path(text)
    if target.suffix != ".png" or not target.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a .png file in a folder that exists, not {text!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("needs matplotlib, which `uv run --group bench` brings")
    return target


def stop_on_signals() -> None:
    """What was started is stopped then, too."""
    for each in STOPS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
            signal.signal(each, interrupt)


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Begin the one orderly stop: another signal would leave processes behind."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt

#!/usr/bin/env python3
"""Measures what streaming costs: this template beside what else an author would use, side by side, in one run.

    uv run --group bench python benchmarks/streaming.py

Every contestant is served by a uvicorn process of its own, on Linux or macOS. In each round all of them are measured
one after another, the first of a round being another each time; a figure is the median over the rounds, and so is
its ratio to StreamingResponse in the same round: noise of the machine hits all alike.
"""

import argparse
import contextlib
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import ModuleType

import redis_answers
import telemetry_cost
from measuring import (
    BEGAN,
    Figures,
    Panel,
    Running,
    TroubleError,
    allow_descriptors,
    environment,
    has_printed,
    line_of,
    machine,
    picture,
    plot,
    positive,
    say,
    started,
    stop_on_signals,
    table,
    versions,
)
from streaming_client import Streams, seconds_to_first_event

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "{{cookiecutter.project_slug}}"
CONTESTANTS = {
    "raw": "raw ASGI",
    "bare": "StreamingResponse, bare FastAPI",
    "streaming_response": "StreamingResponse",
    "fastapi_sse": "FastAPI's SSE",
    "sse_starlette": "sse-starlette",
    "ours": "this template",
    "ours_httptools": "the same on httptools",
}
BASELINE = "streaming_response"
DOTS = (
    ("#999999", 45),
    ("#9ecae9", 45),
    ("#4c78a8", 45),
    ("#e45756", 45),
    ("#f2a541", 45),
    ("#2f8f4e", 95),
    ("#8fce9f", 45),
)
LIBRARIES = ("fastapi", "starlette", "sse-starlette", "uvicorn", "uvloop", "h11", "httptools")
SOURCES = ("ready", "turn")
LESS_EVENTS = {"fastapi_sse": 10, "sse_starlette": 4}  # those whose events cost most get this part of them
LIMIT_SECONDS = 360.0
START_SECONDS = 60.0
ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `--quick` shrinks all of it."""

    rounds: int = 3
    fresh: bool = True  # whether new processes are started for what is measured of memory
    events: int = 100_000  # of all streams of one measurement together
    several: int = 200
    crowds: tuple[int, ...] = (1, 100, 2_000)
    idle_streams: int = 2_000
    settle_seconds: float = 1.0
    idle_seconds: float = 30.0  # a whole number of each contestant's heartbeats: 10 s and 15 s
    running_streams: int = 1_000
    running_events: int = 14  # two a second, for FastAPI's SSE keeps up with no more
    spread_seconds: float = 0.5
    new_streams: int = 200
    pause_seconds: float = 0.01  # between two of the new ones


QUICK = Sizes(1, False, 1_500, 5, (1, 2, 4), 200, 0.2, 0.5, 50, 4, 0.1, 20)


@dataclass(frozen=True)
class Server:
    contestant: str
    port: int

    @property
    def label(self) -> str:
        return CONTESTANTS[self.contestant]

    def streams(self, path: str, number: int, events: int) -> Streams:
        return Streams(self.label, self.port, path, number, events)

    def usage(self) -> dict[str, float]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/usage", headers={"Connection": "close"})
            answer: dict[str, float] = json.loads(connection.getresponse().read())
            return answer

    def cpu_seconds(self, source: str, streams: int, events: int) -> float:
        """The process's CPU time for so many streams at once, of so many events each, from request to end."""
        with self.streams(f"/events/{source}/{events}", streams, events) as opened:
            before = self.usage()
            opened.start()
            opened.read_to_end()
            return self.usage()["cpu_before"] - before["cpu_after"]

    def opening_seconds(self, source: str, streams: int) -> float:
        """The same for streams of one event: a few are over so soon that one measurement alone is mostly noise."""
        repeats = 1 if streams >= 100 else 3
        return statistics.median(self.cpu_seconds(source, streams, 1) for _ in range(repeats))


def running(program: str, *arguments: object) -> AbstractContextManager[Running]:
    """Run one of the programs beside this."""
    return started([sys.executable, HERE / program, *arguments], environment(PROJECT))


@contextmanager
def serving() -> Iterator[list[Server]]:
    """A fresh server for each contestant, warm: what is imported or cached with the first streams counts for none."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(running("contestants.py", name)) for name in CONTESTANTS}
        servers = []
        for name, (process, errors) in processes.items():
            port = line_of(process, START_SECONDS)
            if not port:
                raise TroubleError(f"the server of {CONTESTANTS[name]} did not start:\n{errors()}")
            servers.append(Server(name, int(port)))
            wait_until_it_answers(servers[-1], process, errors)
        try:
            for server in servers:
                for source in SOURCES:
                    server.cpu_seconds(source, 20, 50)
            yield servers
        except (TroubleError, OSError, HTTPException) as error:
            lines = [str(error)]
            for name, (process, errors) in processes.items():
                if process.poll() is not None:
                    lines.append(f"The server of {CONTESTANTS[name]} ended with {process.returncode}.")
                if words := errors():
                    lines.append(f"The server of {CONTESTANTS[name]} printed:\n{words}")
            raise TroubleError("\n".join(lines)) from error


def wait_until_it_answers(server: Server, process: subprocess.Popen[bytes], errors: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.usage()
            return
        except (OSError, HTTPException, ValueError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                what = f"the server of {server.label} does not answer"
                raise TroubleError(f"{what}:\n{errors()}") from error
        time.sleep(0.02)


@dataclass
class Round:
    """Who is measured, the first of them another in each round, and what of them is known already."""

    number: int
    servers: list[Server]
    _measured: dict[tuple[str, str, int, int], float] = field(default_factory=dict)

    def in_turn(self) -> list[Server]:
        first = self.number % len(self.servers)
        return self.servers[first:] + self.servers[:first]

    def cpu_seconds(self, server: Server, source: str, streams: int, events: int) -> float:
        """As the server's own; what two metrics need is measured once."""
        key = (server.contestant, source, streams, events)
        if key not in self._measured:
            self._measured[key] = server.cpu_seconds(source, streams, events)
        return self._measured[key]


def events_each(sizes: Sizes, contestant: str, streams: int) -> int:
    """How many events each of so many streams has, for all of them to take a while."""
    return max(2, sizes.events // streams // LESS_EVENTS.get(contestant, 1))


def measure_cpu(this: Round, sizes: Sizes, figures: Figures) -> None:
    """CPU an event of one stream, and of several at once with all that it takes to open them. An `answer` is `turn`,
    through all that the chat's route does with a model."""
    for source in (*SOURCES, "answer"):
        for streams in (1, sizes.several):
            name = f"CPU an event, {source}, {streams:,} x {sizes.events // streams:,} events"
            for server in this.in_turn():
                events = events_each(sizes, server.contestant, streams)
                seconds = this.cpu_seconds(server, source, streams, events)
                figures.add("cpu", name, "us", server.contestant, seconds / (streams * events) * 1e6)


def measure_growth(this: Round, sizes: Sizes, figures: Figures) -> None:
    """CPU an event by the number of streams, less what as many streams of one event cost, and how much that grows."""
    few, many = min(sizes.crowds), max(sizes.crowds)
    for source in SOURCES:
        costs: dict[tuple[str, int], float] = {}
        for streams in sizes.crowds:
            for server in this.in_turn():
                events = events_each(sizes, server.contestant, streams)
                opening = server.opening_seconds(source, streams)
                seconds = this.cpu_seconds(server, source, streams, events) - opening
                costs[server.contestant, streams] = cost = seconds / (streams * (events - 1)) * 1e6
                name = f"CPU an event, {source}, {streams:,} at once, less opening"
                figures.add("growth", name, "us", server.contestant, cost)
                if streams == many:
                    name = f"CPU a stream of one event, {source}, {many:,} at once"
                    figures.add("growth", name, "us", server.contestant, opening / streams * 1e6)
        for server in this.servers:
            name = f"growth, {source}, {few:,} to {many:,} at once"
            growth = costs[server.contestant, many] / costs[server.contestant, few]
            figures.add("growth", name, "x", server.contestant, growth, compared=False)


def measure_idle(this: Round, sizes: Sizes, figures: Figures) -> None:
    """What an open stream costs that has nothing to say. The streams of all contestants wait at once."""
    with ExitStack() as stack:
        waiting = {}
        before = {}
        for server in this.servers:
            before[server.contestant] = server.usage()
            opened = server.streams("/events/idle/1", sizes.idle_streams, 1)
            waiting[server.contestant] = stack.enter_context(opened)
            opened.start()
            opened.read_first()
        for opened in waiting.values():
            opened.read(sizes.settle_seconds / len(waiting))
        settled = {server.contestant: server.usage() for server in this.servers}
        began = time.monotonic()
        while time.monotonic() - began < sizes.idle_seconds:
            for opened in waiting.values():
                opened.read(0.02)
        seconds = time.monotonic() - began
        for server in this.servers:
            name, after = server.contestant, server.usage()
            if waiting[name].ended:
                raise TroubleError(f"{CONTESTANTS[name]}: {waiting[name].ended} idle streams ended by themselves")
            memory = (settled[name]["memory"] - before[name]["memory"]) / sizes.idle_streams / 1024
            figures.add("idle", f"memory an idle stream, of {sizes.idle_streams:,}", "KiB", name, memory)
            cpu = (after["cpu_before"] - settled[name]["cpu_after"]) / sizes.idle_streams / seconds * 60
            figures.add("idle", "CPU an idle stream and minute, heartbeats included", "us", name, cpu * 1e6)
            held = (settled[name]["descriptors"] - before[name]["descriptors"]) / sizes.idle_streams
            figures.add("idle", "descriptors an idle stream", "", name, held)


def measure_first_event(this: Round, sizes: Sizes, figures: Figures) -> None:
    """How long a new stream takes to its first event, from the connection on, while many others run."""
    for server in this.in_turn():
        load = ("/events/paced/" + str(sizes.running_events), sizes.running_streams, sizes.running_events)
        with running("streaming_client.py", server.label, server.port, *load, sizes.spread_seconds) as (
            process,
            errors,
        ):
            if line_of(process, START_SECONDS) != "running":
                raise TroubleError(errors())
            times: list[float] = []
            while len(times) < sizes.new_streams and not has_printed(process, sizes.pause_seconds):
                times.append(seconds_to_first_event(server.label, server.port, "/events/ready/1") * 1e3)
            try:
                failed = process.wait(START_SECONDS) != 0
            except subprocess.TimeoutExpired:
                failed = True
            if failed or len(times) < 2:
                raise TroubleError(f"{server.label}, {len(times)} streams opened: {errors()}")
        if len(times) < sizes.new_streams:
            say(f"  {server.label}: {len(times)} new streams, before the first of the others ended")
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        beside = f"beside {sizes.running_streams:,} streams"
        figures.add("first-event", f"time to the first event {beside}, p50", "ms", server.contestant, cuts[49])
        figures.add("first-event", f"time to the first event {beside}, p99", "ms", server.contestant, cuts[98])


METRICS = {
    "idle": measure_idle,
    "cpu": measure_cpu,
    "growth": measure_growth,
    "first-event": measure_first_event,
}
TABLES = {"redis": redis_answers, "telemetry": telemetry_cost}  # of their own, and of rendered projects
ONCE = {"idle"}  # a second time, memory would come from what the first has left


def measure(sizes: Sizes, metrics: list[str], limit_seconds: float) -> Figures:
    """Begins no further round that would end behind the limit, on a machine that is slow or busy."""
    figures = Figures(BASELINE)
    groups = [[metric for metric in metrics if (metric in ONCE) == once] for once in (True, False)]
    for group in filter(None, groups if sizes.fresh else [metrics]):
        with serving() as servers:
            for number in range(sizes.rounds):
                began = time.monotonic()
                this = Round(number, servers)
                for metric in group:
                    if metric not in ONCE or number == 0:
                        say(f"{metric}: round {number + 1} of {1 if metric in ONCE else sizes.rounds}")
                        METRICS[metric](this, sizes, figures)
                if number + 1 < sizes.rounds and 2 * time.monotonic() - began - BEGAN > limit_seconds:
                    say(f"no round after this one: it would end after {limit_seconds:.0f} s (--rounds N insists)")
                    break
    return figures


def as_json(figures: Figures, sizes: Sizes) -> str:
    rows = [
        {
            "metric": figure.metric,
            "figure": figure.name,
            "unit": figure.unit,
            "values": {name: figure.value(name) for name in CONTESTANTS},
            f"ratios_to_{BASELINE}": {name: figure.ratio(name) for name in CONTESTANTS},
            "ratios_of_ours_to": {name: figure.ratio("ours", name) for name in CONTESTANTS},
            "rounds": figure.rounds,
        }
        for figure in figures.values()
    ]
    return json.dumps(
        {"machine": machine(versions(LIBRARIES)), "sizes": asdict(sizes), "less_events": LESS_EVENTS, "figures": rows},
        indent=2,
    )


def as_markdown(figures: Figures) -> str:
    about = machine(versions(LIBRARIES))
    most = max(len(figure.rounds["ours"]) for figure in figures.values())
    known = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    fewer = ", ".join(f"{CONTESTANTS[name]} 1/{part}" for name, part in LESS_EVENTS.items())
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; {known}.",
        f"Medians of {most} round{'s' * (most > 1)} (idle streams: one); in brackets, multiples of StreamingResponse.",
        f"Given fewer events, as they take so much longer: {fewer}.",
        "",
        *table(
            ["", *CONTESTANTS.values()],
            ([figure.title, *(figure.cell(name) for name in CONTESTANTS)] for figure in figures.values()),
        ),
    ]
    others = [name for name in CONTESTANTS if name != "ours"]
    ratios = (
        [figure.name, *("-" if (ratio := figure.ratio("ours", name)) is None else f"{ratio:.2f}x" for name in others)]
        for figure in figures.values()
        if figure.compared
    )
    head = ["this template as a multiple of", *(CONTESTANTS[name] for name in others)]
    return "\n".join([*lines, "", *table(head, ratios)])


def allow_descriptors_for(sizes: Sizes, metrics: list[str]) -> None:
    idle = sizes.idle_streams * len(CONTESTANTS) if "idle" in metrics else 0
    allow_descriptors(max(idle, *sizes.crowds))


def of_projects(bench: ModuleType, quick: bool, rounds: int | None, kept: Path | None, wants_json: bool) -> str:
    sizes = bench.QUICK if quick else bench.Sizes()
    sizes = replace(sizes, rounds=rounds or sizes.rounds)
    allow_descriptors(bench.descriptors(sizes))
    with tempfile.TemporaryDirectory() as scratch:
        figures = bench.measured((kept or Path(scratch)).absolute(), sizes)
    text: str = (bench.as_json if wants_json else bench.as_markdown)(figures, sizes)
    return text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="streaming.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else, on stdout")
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="draw the figures into this file")
    parser.add_argument("--quick", action="store_true", help="much smaller numbers of all: to see that it works")
    only = f"measure this alone; what {' and '.join(TABLES)} cost is not measured else"
    parser.add_argument("--only", choices=[*METRICS, *TABLES], help=only)
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"default: {Sizes.rounds}, with --quick 1")
    parser.add_argument(
        "--projects",
        type=Path,
        metavar="FOLDER",
        help="of these two: keep the projects here, and measure those that are here already",
    )
    options = parser.parse_args(arguments)
    if sys.platform == "win32":
        parser.error("Linux or macOS is needed: there is no uvloop for Windows")
    lacking = [name for name in LIBRARIES if importlib.util.find_spec(name.replace("-", "_")) is None]
    if lacking:
        parser.error(f"{', '.join(lacking)} cannot be imported: run it with `uv run --group bench`")
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
    metrics = [options.only] if options.only else list(METRICS)
    stop_on_signals()
    try:
        if bench := TABLES.get(options.only):
            print(of_projects(bench, options.quick, options.rounds, options.projects, options.json))
            return 0
        allow_descriptors_for(sizes, metrics)
        figures = measure(sizes, metrics, math.inf if options.rounds else LIMIT_SECONDS)
        print(as_json(figures, sizes) if options.json else as_markdown(figures))
        if options.plot:
            dots = {name: (CONTESTANTS[name], *dot) for name, dot in zip(CONTESTANTS, DOTS, strict=True)}
            plot([Panel(figures.values(), dots, BASELINE)], machine(versions(LIBRARIES)), options.plot)
    except (TroubleError, OSError, HTTPException) as trouble:
        say(f"streaming.py: {trouble}")
        return 1
    except KeyboardInterrupt:
        say("streaming.py: stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Measures what an answer costs on its whole way: this template beside what people write by hand, side by side.

    uv run --group bench python benchmarks/route.py

The way is from a model's service over HTTP, through the vendor's SDK, to the reader. The service is a fake one, in a
process of its own; each contestant is served by a uvicorn process of its own, by the Python of a project that is
rendered for the provider; on Linux or macOS. In each round all contestants are measured one after another, the first
of a round being another each time; a figure is the median over the rounds, and so is its ratio to StreamingResponse in
the same round: noise of the machine hits all alike.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import projects
from measuring import (
    Figures,
    TroubleError,
    allow_descriptors,
    environment,
    line_of,
    machine,
    positive,
    say,
    started,
    stop_on_signals,
    table,
)

HERE = Path(__file__).resolve().parent
CONTESTANTS = {
    "streaming_response": "the SDK in a StreamingResponse",
    "sse_starlette": "in sse-starlette",
    "fastapi_sse": "in FastAPI's SSE",
    "ours": "this template",
}
BASELINE = "streaming_response"
LIBRARIES = ("fastapi", "starlette", "uvicorn", "uvloop", "h11", "httptools")
SSE_STARLETTE = "sse-starlette"  # what no project has
METRICS = ("idle", "cpu")
LIMIT_SECONDS = 360.0
START_SECONDS = 60.0
ANSWER_SECONDS = 120.0
FOR_EVER_SECONDS = 3_600


@dataclass(frozen=True)
class Provider:
    label: str
    path: str  # of the base URL that its SDK is given
    target: str  # of the CPU time that a token takes, in one answer


PROVIDERS = {
    "openai": Provider("OpenAI", "/v1", "at most 0.30x"),
    "anthropic": Provider("Anthropic", "", "at most 0.75x"),
}


@dataclass(frozen=True)
class Shape:
    """How tokens come: in so many answers at once, of so many each, some of them together, and a pause behind these."""

    name: str
    answers: int
    tokens: int
    burst: int
    pause_seconds: float = 0  # of the model; without one it is as fast as it can be

    @property
    def question(self) -> str:
        return f"{self.tokens}-{self.burst}-{self.pause_seconds:g}"


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `--quick` shrinks all of it."""

    rounds: int = 3
    tokens: int = 4_000
    burst: int = 20
    answers: int = 50  # at once
    spread_tokens: int = 250  # of each of these
    warm_tokens: int = 200
    idle_answers: int = 400  # the SDKs open no more than 1,000 connections
    settle_seconds: float = 1.0

    def shapes(self) -> list[Shape]:
        rate = 50  # a second: what a fast model does
        several = f"{rate} a second in each of {self.answers} answers"
        return [
            Shape("one at a time", 1, self.tokens, 1),
            Shape(f"in bursts of {self.burst}", 1, self.tokens, self.burst),
            Shape(several, self.answers, self.spread_tokens, 1, 1 / rate),
        ]


QUICK = Sizes(1, 60, 20, 3, 10, 20, 60, 0.1)
IDLE = Shape("idle", 1, 1, 1, FOR_EVER_SECONDS)


@dataclass(frozen=True)
class Server:
    contestant: str
    port: int

    @property
    def label(self) -> str:
        return CONTESTANTS[self.contestant]

    def usage(self) -> dict[str, float]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/usage", headers={"Connection": "close"})
            answer: dict[str, float] = json.loads(connection.getresponse().read())
            return answer

    def ask(self, stack: ExitStack, answers: int, question: str) -> list[HTTPConnection]:
        """Connections, on each of which an answer is asked for."""
        connections = [HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS) for _ in range(answers)]
        for connection in connections:
            stack.callback(connection.close)
            body = json.dumps({"question": question})
            connection.request("POST", "/chat/stream", body, {"Content-Type": "application/json"})
        return connections

    def cpu_seconds(self, shape: Shape) -> float:
        """The process's CPU time a token, from the requests to the ends."""
        before = self.usage()
        with ExitStack() as stack:
            # One is read after the other: what is sent meanwhile has room in the sockets of all.
            answers = [each.getresponse().read() for each in self.ask(stack, shape.answers, shape.question)]
        for answer in answers:
            found = answer.count(b"event: token")
            if found != shape.tokens or b"event: done" not in answer[-100:]:
                tail = answer[-300:]
                raise TroubleError(f"{self.label}: an answer of {shape.tokens} tokens ended after {found}: {tail!r}")
        return (self.usage()["cpu_before"] - before["cpu_after"]) / (shape.tokens * shape.answers)

    def wait_for_token(self, response: HTTPResponse) -> None:
        seen = b""
        while b"event: token" not in seen:
            if not (data := response.read1(65_536)):
                raise TroubleError(f"{self.label}: an answer ended with {seen[:300]!r}")
            seen += data


@contextmanager
def serving(provider: str, project: Path, extra: Path) -> Iterator[list[Server]]:
    """The model's service, and a fresh server for each contestant."""
    env = environment(project) | {"PYTHONPATH": str(extra)}
    python = projects.python_of(project)
    with ExitStack() as stack:

        def start(name: str, *command: object) -> int:
            process, errors = stack.enter_context(started(command, env, project))
            if not (port := line_of(process, START_SECONDS)):
                raise TroubleError(f"{name} did not start:\n{errors()}")
            printed[name] = errors
            return int(port)

        printed: dict[str, Any] = {}
        port = start("the model's service", sys.executable, HERE / "route_upstream.py")
        url = f"http://127.0.0.1:{port}{PROVIDERS[provider].path}"
        script = HERE / "route_contestants.py"
        servers = [Server(name, start(CONTESTANTS[name], python, script, provider, name, url)) for name in CONTESTANTS]
        try:
            yield servers
        except (TroubleError, OSError, HTTPException) as error:
            lines = [f"{name} printed:\n{words}" for name, errors in printed.items() if (words := errors())]
            raise TroubleError("\n".join([str(error), *lines])) from error


def in_turn(servers: Sequence[Server], number: int) -> list[Server]:
    first = number % len(servers)
    return [*servers[first:], *servers[:first]]


def warm_up(servers: Sequence[Server], sizes: Sizes) -> None:
    """What is imported or cached with the first answers counts for none."""
    for server in servers:
        for burst in (1, sizes.burst):
            server.cpu_seconds(Shape("warm", 1, sizes.warm_tokens, burst))


def measure_cpu(servers: Sequence[Server], sizes: Sizes, figures: Figures, target: str) -> None:
    for shape in sizes.shapes():
        aim = target if shape.answers == 1 else ""
        for server in servers:
            name, cost = f"CPU a token, {shape.name}", server.cpu_seconds(shape) * 1e6
            figures.add("cpu", name, "us", server.contestant, cost, target=aim)


def measure_idle(servers: Sequence[Server], sizes: Sizes, figures: Figures) -> None:
    """What an open answer takes whose model has said a word, and thinks. Others are open before: these may have what
    the start of the server has left behind."""

    def opened(answers: int) -> dict[str, float]:
        for connection in server.ask(stack, answers, IDLE.question):
            server.wait_for_token(stack.enter_context(connection.getresponse()))
        time.sleep(sizes.settle_seconds)
        return server.usage()

    for server in servers:
        with ExitStack() as stack:
            before = opened(sizes.idle_answers)
            after = opened(sizes.idle_answers)
        memory = (after["memory"] - before["memory"]) / sizes.idle_answers / 1024
        figures.add("idle", f"memory an idle answer, of {sizes.idle_answers:,}", "KiB", server.contestant, memory)


def measure(made: Mapping[str, Path], extra: Path, sizes: Sizes, only: str | None, limit: float) -> list[Figures]:
    """Begins no further round that would end behind the limit, on a machine that is slow or busy."""
    figures = {provider: Figures(BASELINE) for provider in made}
    began = time.monotonic()
    with ExitStack() as stack:
        serve = {name: stack.enter_context(serving(name, project, extra)) for name, project in made.items()}
        for provider, servers in serve.items():
            warm_up(servers, sizes)
            if only in (None, "idle"):  # first, and once: else it would come from what others have left
                say(f"{PROVIDERS[provider].label}: idle")
                measure_idle(servers, sizes, figures[provider])
        for number in range(sizes.rounds if only in (None, "cpu") else 0):
            round_began = time.monotonic()
            for provider, servers in serve.items():
                say(f"{PROVIDERS[provider].label}: cpu, round {number + 1} of {sizes.rounds}")
                measure_cpu(in_turn(servers, number), sizes, figures[provider], PROVIDERS[provider].target)
            now = time.monotonic()
            if number + 1 < sizes.rounds and now - began + now - round_began > limit:
                say(f"no round after this one: it would end after {limit:.0f} s (--rounds N insists)")
                break
    return list(figures.values())


def about(provider: str, project: Path) -> dict[str, Any]:
    """What was measured on, the versions being the project's, but for the one that it lacks."""
    code = "import platform, sys; from importlib.metadata import version\nprint('Python', platform.python_version())"
    code += "\nfor name in sys.argv[1:]: print(name, version(name))"
    command = [str(projects.python_of(project)), "-c", code, provider, *LIBRARIES]
    printed = subprocess.check_output(command, encoding="utf-8", timeout=START_SECONDS)
    versions = dict(line.split() for line in printed.splitlines())
    return machine(versions | {SSE_STARLETTE: importlib.metadata.version(SSE_STARLETTE)})


class Report(NamedTuple):
    provider: str
    machine: Mapping[str, Any]
    sizes: Sizes
    figures: Figures

    def as_json(self) -> dict[str, Any]:
        rows = [
            {
                "metric": figure.metric,
                "figure": figure.name,
                "unit": figure.unit,
                "target": figure.target,
                "values": {name: figure.value(name) for name in CONTESTANTS},
                "ratios": {name: figure.ratio(name) for name in CONTESTANTS},
                "rounds": figure.rounds,
            }
            for figure in self.figures.values()
        ]
        sizes = asdict(self.sizes)
        return {"provider": self.provider, "machine": self.machine, "sizes": sizes, "figures": rows}

    def as_markdown(self) -> str:
        most = max(len(values) for figure in self.figures.values() for values in figure.rounds.values())
        versions = ", ".join(f"{name} {version}" for name, version in self.machine["versions"].items())
        head = [PROVIDERS[self.provider].label, *CONTESTANTS.values(), "target"]
        rows = [
            [figure.title, *(figure.cell(name) for name in CONTESTANTS), figure.target]
            for figure in self.figures.values()
        ]
        lines = [
            f"{self.machine['cpu']}, {self.machine['cores']} cores, {self.machine['system']}; {versions}.",
            f"Medians of {most} round{'s' * (most > 1)} (idle answers: one); in brackets, multiples of the first.",
        ]
        return "\n".join([*lines, "", *table(head, rows)])


def measured(asked: Sequence[str], sizes: Sizes, only: str | None, folder: Path, limit: float) -> list[Report]:
    made = {name: projects.made(folder / name, "none", f"model_provider={name}") for name in asked}
    extra = projects.package(f"{SSE_STARLETTE}=={importlib.metadata.version(SSE_STARLETTE)}", folder)
    figures = measure(made, extra, sizes, only, limit)
    machines = [about(name, project) for name, project in made.items()]
    return [Report(*each) for each in zip(made, machines, [sizes] * len(made), figures, strict=True)]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="route.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else, on stdout")
    parser.add_argument("--quick", action="store_true", help="much smaller numbers of all: to see that it works")
    parser.add_argument("--only", choices=METRICS, help="measure this alone")
    parser.add_argument("--provider", choices=PROVIDERS, help="measure this alone")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"default: {Sizes.rounds}, with --quick 1")
    parser.add_argument(
        "--projects",
        type=Path,
        metavar="FOLDER",
        help="keep the projects here, and measure those that are here already",
    )
    options = parser.parse_args(arguments)
    if sys.platform == "win32":
        parser.error("Linux or macOS is needed: there is no uvloop for Windows")
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
    asked = [options.provider] if options.provider else list(PROVIDERS)
    stop_on_signals()
    try:
        allow_descriptors(4 * sizes.idle_answers)
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.projects or Path(scratch)).absolute()
            limit = math.inf if options.rounds else LIMIT_SECONDS
            reports = measured(asked, sizes, options.only, folder, limit)
        if options.json:
            print(json.dumps([report.as_json() for report in reports], indent=2))
        else:
            print("\n\n".join(report.as_markdown() for report in reports))
    except (TroubleError, OSError, HTTPException) as trouble:
        say(f"route.py: {trouble}")
        return 1
    except KeyboardInterrupt:
        say("route.py: stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

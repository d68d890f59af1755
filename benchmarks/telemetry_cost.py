"""What telemetry costs: the table of `streaming.py --only telemetry`.

Two projects are rendered, without telemetry and with it. The first is served a second time with FastAPI's own telemetry
switched on, which is a span and two metrics for each request: what is more than that is ours. All of it is exported to
a receiver that takes all and looks at nothing. In each round all are measured one after the other, every second time
the last first. Spans go out each half second, not each five as by default: so those of a measure count in it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import projects
from answer_server import FASTAPI_ALONE
from measuring import Figures, TroubleError, environment, line_of, machine, say, started, table, versions
from redis_answers import Readers, Server

HERE = Path(__file__).resolve().parent
CONTESTANTS = {"none": "without", "fastapi": "FastAPI's own alone", "opentelemetry": "OpenTelemetry"}
RENDERED = ("none", "opentelemetry")
BASELINE = "none"
LIBRARIES = ("fastapi", "uvicorn", "uvloop")
START_SECONDS = 60.0
AT_ONCE = 20
EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "500", "OTEL_METRIC_EXPORT_INTERVAL": "10000"}  # milliseconds
PACED_SECONDS = 0.02


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `--quick` shrinks all of it."""

    rounds: int = 9
    tokens: int = 2000  # of each of AT_ONCE answers, as fast as they come
    paced: int = 100  # of each of AT_ONCE answers, 50 a second
    answers: int = 400  # of one token
    settle_seconds: float = 1.0  # until what is exported behind an answer has gone out


QUICK = Sizes(1, 20, 5, 20, 0.1)


@contextmanager
def receiving() -> Iterator[str]:
    """An address that takes whatever is exported."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def serving(made: Mapping[str, Path]) -> Iterator[list[Server]]:
    printed: dict[str, Callable[[], str]] = {}
    with ExitStack() as stack:
        exported = EXPORT | {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(receiving())}
        try:
            servers = []
            for name in CONTESTANTS:
                project = made.get(name, made["none"])
                env = environment(project) | {"LOG_LEVEL": "WARNING"} | exported
                if name not in made:
                    env[FASTAPI_ALONE] = "1"
                # Of its libraries, the first project's Python lacks what exports.
                python = projects.python_of(made["none" if name == "none" else "opentelemetry"])
                command = [python, HERE / "answer_server.py"]
                process, printed[name] = stack.enter_context(started(command, env, project))
                if not (port := line_of(process, START_SECONDS)):
                    raise TroubleError(f"the server of {name} did not start")
                servers.append(Server(name, int(port)))
            yield servers
        except (TroubleError, OSError, HTTPException) as error:
            lines = [f"{name} printed:\n{words}" for name, errors in printed.items() if (words := errors())]
            raise TroubleError("\n".join([str(error), *lines])) from error


def cpu_seconds(server: Server, answers: int, tokens: int, pause: float, settle: float) -> float:
    """The process's CPU time for so many answers, AT_ONCE at a time, from request to end and export."""
    before, question = server.usage(), json.dumps({"question": f"{tokens}-{pause}"})
    for start in range(0, answers, AT_ONCE):
        with Readers() as readers:
            for _ in range(min(AT_ONCE, answers - start)):
                readers.request(server.port, "POST /chat/stream", question)
            readers.read_to_end(tokens)
    time.sleep(settle)
    return server.cpu_since(before)


def measure(servers: list[Server], number: int, sizes: Sizes, figures: Figures) -> None:
    costs: dict[str, tuple[float, float, float]] = {}
    for server in servers[::-1] if number % 2 else servers:
        an_answer = cpu_seconds(server, sizes.answers, 1, 0, sizes.settle_seconds) / sizes.answers * 1e6
        fast = cpu_seconds(server, AT_ONCE, sizes.tokens, 0, sizes.settle_seconds) / AT_ONCE * 1e6 - an_answer
        paced = cpu_seconds(server, AT_ONCE, sizes.paced, PACED_SECONDS, sizes.settle_seconds) / AT_ONCE * 1e6
        costs[server.contestant] = an_answer, fast / sizes.tokens, (paced - an_answer) / sizes.paced
    names = ("CPU an answer of one token", "CPU a token, as fast as they come", "CPU a token, 50 a second")
    targets = ("150 more at most", "3 more at most", "3 more at most")
    for place, (name, target) in enumerate(zip(names, targets, strict=True)):
        for contestant, each in costs.items():
            figures.add("telemetry", name, "us", contestant, each[place], target=target)
        for contestant in costs.keys() - {BASELINE}:
            more = costs[contestant][place] - costs[BASELINE][place]
            figures.add("telemetry", f"{name}, more", "us", contestant, more, compared=False, target=target)
        ours = costs["opentelemetry"][place] - costs["fastapi"][place]
        beside = f"{name}, more than FastAPI's own"
        figures.add("telemetry", beside, "us", "opentelemetry", ours, compared=False, target=target)


def descriptors(_: Sizes) -> int:
    return AT_ONCE


def measured(folder: Path, sizes: Sizes) -> Figures:
    made = {name: projects.made(folder / f"telemetry-{name}", "none", f"telemetry={name}") for name in RENDERED}
    figures = Figures(BASELINE)
    with serving(made) as servers:
        measure(servers, 0, QUICK, Figures(BASELINE))  # what is imported or cached then counts for none
        for number in range(sizes.rounds):
            say(f"telemetry: round {number + 1} of {sizes.rounds}")
            measure(servers, number, sizes, figures)
    return figures


def as_json(figures: Figures, sizes: Sizes) -> str:
    rows = [
        {
            "figure": figure.name,
            "unit": figure.unit,
            "target": figure.target,
            "values": {name: figure.value(name) for name in figure.rounds},
            "rounds": figure.rounds,
        }
        for figure in figures.values()
    ]
    return json.dumps({"machine": machine(versions(LIBRARIES)), "sizes": asdict(sizes), "figures": rows}, indent=2)


def as_markdown(figures: Figures, sizes: Sizes) -> str:
    about = machine(versions(LIBRARIES))
    known = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = [[figure.title, *(figure.cell(name) for name in CONTESTANTS), figure.target] for figure in figures.values()]
    spread = [
        f"{figure.name}: from {min(values):.2f} to {max(values):.2f}"
        for figure in figures.values()
        if (values := figure.rounds.get("opentelemetry")) and not figure.compared
    ]
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; {known}.",
        f"Medians of {sizes.rounds} round{'s' * (sizes.rounds > 1)}, and of their differences. {'; '.join(spread)}.",
    ]
    return "\n".join([*lines, "", *table(["", *CONTESTANTS.values(), "target"], rows)])

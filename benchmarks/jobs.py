#!/usr/bin/env python3
"""Measures what durable jobs cost: this template beside its queue library called bare, side by side, in one run.

    uv run --group bench python benchmarks/jobs.py

Renders a project for each queue, with one trivial task of its own, and starts a Valkey with an append-only file, the
same for all; on Linux or macOS. In each round all contestants are measured one after another, the first of a round
being another each time; a figure is the median over the rounds, and so is its ratio to the bare library in the same
round: noise of the machine hits all alike.
"""

import argparse
import contextlib
import json
import math
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, cast

import redis
from measuring import (
    Figures,
    TroubleError,
    allow_descriptors,
    environment,
    interrupt,
    line_of,
    machine,
    picture,
    plot,
    positive,
    say,
    started,
    table,
)

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
import dev  # noqa: E402 - it renders a project as its own demo does

TASK = """

class Number(BaseModel):
    number: int


@task()
async def nothing(context: JobContext, payload: Number) -> int:
    return payload.number
"""
DOCUMENT = json.dumps({"title": "A title", "text": "Some words of a document. " * 40})
LIMIT_SECONDS = 420.0
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
JOBS_SECONDS = 300.0  # far above what any number of jobs takes here
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.1
STALL_SECONDS = 1.0


@dataclass(frozen=True)
class Contestant:
    name: str  # of job_contestants.py
    label: str
    colour: str
    worker: tuple[str, ...] = ()  # none, where it differs from another in its endpoint only


@dataclass(frozen=True)
class Queue:
    """A queue library, the template's variant for it, and who is measured: the first is the baseline."""

    answer: str
    label: str
    libraries: tuple[str, ...]
    contestants: tuple[Contestant, ...]
    messages: Callable[[redis.Redis, str], int]  # how many wait for a worker, by the queue's name

    @property
    def baseline(self) -> str:
        return self.contestants[0].name

    @property
    def ours(self) -> Contestant:
        return self.contestants[-1]


def rq_messages(server: redis.Redis, name: str) -> int:
    return server.llen(f"rq:queue:{name}")


OURS = Contestant("ours", "this template", "#2f8f4e", ("-m", "app.worker"))
QUEUES = (
    Queue(
        "rq",
        "RQ",
        ("rq", "redis", "fastapi", "uvicorn"),
        (
            Contestant("rq", "RQ", "#e45756", (str(HERE / "job_contestants.py"), "rq", "worker")),
            Contestant("rq_threads", "RQ in a `def` endpoint", "#f2a541"),
            OURS,
        ),
        rq_messages,
    ),
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `--quick` shrinks all of it."""

    rounds: int = 3
    accepted: int = 900  # less than a backend may hold at once, so that the relay hands over all of them
    posts: int = 50
    bursts: int = 5
    jobs: int = 300
    waiting: int = 10_000
    settle_seconds: float = 3.0
    idle_seconds: float = 20.0  # a whole number of heartbeats
    followers: int = 500


QUICK = Sizes(1, 30, 5, 1, 20, 30, 0.5, 1.0, 5)


@dataclass
class Bench:
    """One queue's project and its server of Redis, and what is started of them."""

    queue: Queue
    project: Path
    python: Path
    redis_url: str
    server: redis.Redis
    number: int = 0  # of the round

    def in_turn(self, *, workers: bool = False) -> list[Contestant]:
        """The first is another in each round; on request only those with a worker of their own."""
        contestants = [each for each in self.queue.contestants if each.worker or not workers]
        first = self.number % len(contestants)
        return contestants[first:] + contestants[:first]

    def env(self, contestant: Contestant) -> dict[str, str]:
        names = {"REDIS_URL": self.redis_url, "QUEUE_NAME": contestant.name, "PYTHONPATH": str(HERE)}
        return environment(self.project) | names

    def flush(self) -> None:
        self.server.flushall()

    def redis_cpu(self) -> float:
        info = self.server.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def connections(self) -> int:
        return len(self.server.client_list())

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Stops the server for a while, from now on."""
        pid = int(self.server.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        again = threading.Timer(STALL_SECONDS, os.kill, (pid, signal.SIGCONT))
        again.start()
        try:
            yield
        finally:
            again.cancel()
            os.kill(pid, signal.SIGCONT)

    def kept(self) -> tuple[int, int]:
        """How many keys there are, and the bytes that they take."""
        keys = self.server.keys()
        with self.server.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.memory_usage(key, samples=0)
            return len(keys), sum(size or 0 for size in pipe.execute())  # None for one that has expired since

    @contextmanager
    def accepting(self, contestant: Contestant) -> Iterator["Accepting"]:
        command = (self.python, HERE / "job_contestants.py", contestant.name, "accept")
        with started(command, self.env(contestant), self.project) as (process, errors):
            yield Accepting(contestant, process, errors)

    @contextmanager
    def serving(self, contestant: Contestant) -> Iterator["Web"]:
        command = (self.python, HERE / "job_contestants.py", contestant.name, "web")
        with started(command, self.env(contestant), self.project) as (process, errors):
            port = line_of(process, START_SECONDS)
            if not port:
                raise TroubleError(f"{contestant.label}: the web server did not start:\n{errors()}")
            web = Web(contestant, int(port), errors)
            web.wait_until_it_answers(process)
            yield web


@dataclass(frozen=True)
class Accepting:
    """A process that accepts jobs on command."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    errors: Callable[[], str]

    def __call__(self, command: str, *arguments: int) -> dict[str, float]:
        assert self.process.stdin
        self.process.stdin.write(f"{' '.join([command, *map(str, arguments)])}\n".encode())
        line = line_of(self.process, JOBS_SECONDS)
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"no answer to {command}:\n{self.errors()}"}
        if "error" in answer:
            raise TroubleError(f"{self.contestant.label}: {answer['error']}")
        return answer


@dataclass(frozen=True)
class Web:
    """A web server."""

    contestant: Contestant
    port: int
    errors: Callable[[], str]

    def ask(self, method: str, path: str, body: str | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            headers = {"Connection": "close", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
            if response.status >= 300:
                raise TroubleError(f"{self.contestant.label}: {method} {path} gave {response.status}: {text}")
            return json.loads(text)

    def cpu(self) -> float:
        return float(self.ask("GET", "/usage")["cpu"])

    def cpu_share(self, seconds: float) -> float:
        """Percent of one core, over this time."""
        cpu, began = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - cpu) / (time.monotonic() - began) * 100

    def wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.cpu()
                return
            except (OSError, HTTPException) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    what = f"{self.contestant.label}: the web server does not answer"
                    raise TroubleError(f"{what}:\n{self.errors()}") from error
            time.sleep(0.02)

    def burst(self, posts: int) -> tuple[float, list[float]]:
        """Posts so many documents at once; the longest stall of the loop meanwhile, and the seconds that each took."""
        self.ask("POST", "/probe")
        seconds = post_at_once(self.contestant.label, self.port, posts)
        return float(self.ask("GET", "/probe")["longest"]), seconds


def post_at_once(label: str, port: int, number: int) -> list[float]:
    """The seconds to each answer's end, each on a connection of its own, opened before."""
    head = f"Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(DOCUMENT)}"
    request = f"POST /documents HTTP/1.1\r\n{head}\r\n\r\n{DOCUMENT}".encode()
    seconds: list[float] = []
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(number)]
        for connection in opened:
            connection.sendall(request)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, (time.perf_counter(), bytearray()))
        deadline = time.monotonic() + ANSWER_SECONDS
        while len(seconds) < number:
            if time.monotonic() > deadline:
                raise TroubleError(f"{label}: {len(seconds)} of {number} posts were answered in {ANSWER_SECONDS:g} s")
            for key, _ in selector.select(1):
                began, answer = key.data
                if data := cast(socket.socket, key.fileobj).recv(65_536):
                    answer += data
                    continue
                seconds.append(time.perf_counter() - began)
                selector.unregister(key.fileobj)
                if not answer.startswith(b"HTTP/1.1 202 "):
                    raise TroubleError(f"{label}: a post was answered with {bytes(answer[:300])!r}")
    return seconds


def measure_accepting(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What it costs to accept a job, one after the other, and what it takes of Redis."""
    add = partial(figures.add, "accept")
    for contestant in bench.in_turn(workers=True):
        bench.flush()
        with bench.accepting(contestant) as accepting:
            accepting("accept", sizes.accepted)
            bench.flush()
            cpu = bench.redis_cpu()
            took = accepting("accept", sizes.accepted)
            cpu = bench.redis_cpu() - cpu
            name = contestant.name
            per = 1e6 / sizes.accepted
            add("a job accepted, wall clock", "us", name, took["seconds"] * per, target="at most 1.5x")
            add("a job accepted, CPU of the process", "us", name, took["cpu"] * per)
            add("a job accepted, CPU of Redis", "us", name, max(cpu, 1e-6) * per)
            if contestant == bench.queue.ours:
                relayed = accepting("relay")
                add("a job handed over by the relay, CPU", "us", name, relayed["cpu"] / relayed["jobs"] * 1e6)
                add(
                    "a job handed over by the relay, wall clock", "us", name, relayed["seconds"] / relayed["jobs"] * 1e6
                )
            keys, size = bench.kept()
            add("a job that waits, in Redis", "KiB", name, size / took["jobs"] / 1024)
            add("keys of a job that waits", "", name, keys / took["jobs"])
            if contestant == bench.queue.ours:
                bench.flush()
                took = accepting("accept_relaying", sizes.accepted)
                add("a job accepted, the relay beside, wall clock", "us", name, took["seconds"] * per)
                add("a job accepted, the relay beside, CPU of both", "us", name, took["cpu"] * per)


def measure_posts(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What a web server's event loop has to stand while documents are posted to it, many at once."""
    for contestant in bench.in_turn():
        bench.flush()
        with bench.serving(contestant) as web:
            web.burst(sizes.posts)
            for paused in (False, True):
                stalls, middles, totals = [], [], []
                for _ in range(1 if paused else sizes.bursts):
                    with bench.stalled() if paused else nullcontext():
                        stall, seconds = web.burst(sizes.posts)
                    stalls.append(stall)
                    middles.append(statistics.median(seconds))
                    totals.append(max(seconds))
                what = f"{sizes.posts} posts at once" + (", Redis stalled for 1 s" if paused else "")
                for name, values in (
                    ("longest stall of the loop", stalls),
                    ("answered, p50", middles),
                    ("answered, all", totals),
                ):
                    value = statistics.median(values) * 1e3
                    figures.add("posts", f"{what}: {name}", "ms", contestant.name, value)


def measure_running(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """Trivial jobs through one worker: what is accepted waits for it, so that its start-up counts for none."""
    for contestant in bench.in_turn(workers=True):
        cpu: dict[int, float] = {}
        seconds = 0.0
        for jobs in (1, sizes.jobs):
            bench.flush()
            with ExitStack() as stack:
                if contestant == bench.queue.ours:
                    stack.enter_context(bench.serving(contestant))  # for its relay
                accepting = stack.enter_context(bench.accepting(contestant))
                accepting("accept", jobs)
                cpu[jobs], seconds = work(bench, contestant, accepting)
        rate = sizes.jobs / seconds
        each = (cpu[sizes.jobs] - cpu[1]) / (sizes.jobs - 1) * 1e3
        figures.add("run", "trivial jobs a second, one worker", "1/s", contestant.name, rate, target="at least 0.7x")
        figures.add("run", "a trivial job, CPU of the worker and its fork", "ms", contestant.name, each)


def work(bench: Bench, contestant: Contestant, accepting: Accepting) -> tuple[float, float]:
    """The CPU seconds of a worker and its forks, and the seconds from the first job's start to the last one's end."""
    command = (bench.python, *contestant.worker)
    with started(command, bench.env(contestant), bench.project, talks=False) as (process, errors):
        deadline = time.monotonic() + JOBS_SECONDS
        while not (ended := accepting("ended")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TroubleError(f"{contestant.label}: the worker did not do its jobs:\n{errors()}")
            time.sleep(LOOK_SECONDS)
        process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while True:  # not `wait`, which does not tell what it used
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_utime + usage.ru_stime, ended["seconds"]
            if time.monotonic() > deadline:
                raise TroubleError(f"{contestant.label}: the worker did not end:\n{errors()}")
            time.sleep(0.01)


def measure_waiting(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What a web server costs that has nothing to do: without jobs, and with many that no worker takes."""
    add = partial(figures.add, "wait")
    for contestant in bench.in_turn(workers=True):
        bench.flush()
        with bench.serving(contestant) as web:
            time.sleep(sizes.settle_seconds)
            share = web.cpu_share(sizes.idle_seconds)
            target = "below 1 % of a core"
            add("web server without jobs, CPU", "%", contestant.name, share, target=target)
            if contestant == bench.queue.ours:
                with bench.accepting(contestant) as accepting:
                    accepting("accept", sizes.waiting)
                settled(partial(bench.queue.messages, bench.server, contestant.name), sizes.settle_seconds)
                share = web.cpu_share(sizes.idle_seconds)
                what = f"{sizes.waiting:,} jobs wait and no worker is there"
                add(f"web server while {what}, CPU", "%", contestant.name, share, target=target)
                messages = bench.queue.messages(bench.server, contestant.name)
                add(f"messages in the queue while {what}", "", contestant.name, messages)


def settled(count: Callable[[], int], seconds: float) -> None:
    """Wait until it has not changed for so long, and is not zero."""
    deadline = time.monotonic() + JOBS_SECONDS
    before, since = count(), time.monotonic()
    while not before or time.monotonic() - since < seconds:
        if time.monotonic() > deadline:
            raise TroubleError(f"the queue did not settle, and holds {before} messages")
        time.sleep(LOOK_SECONDS)
        if (now := count()) != before:
            before, since = now, time.monotonic()


def measure_following(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What followers of a job cost while nothing happens to it."""
    contestant = bench.queue.ours
    bench.flush()
    others = bench.connections()
    with bench.serving(contestant) as web, ExitStack() as stack:
        job = web.ask("POST", "/documents", DOCUMENT)
        request = f"GET /jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", web.port))) for _ in range(sizes.followers)
        ]
        for follower in opened:
            follower.settimeout(ANSWER_SECONDS)
            follower.sendall(request)
        for follower in opened:
            seen = b""
            while b"event: status" not in seen:
                if not (data := follower.recv(65_536)):
                    raise TroubleError(f"a follower was answered with {seen[:300]!r}")
                seen += data
        time.sleep(sizes.settle_seconds)
        share = web.cpu_share(sizes.idle_seconds)
        what = f"{sizes.followers} followers of a job while nothing happens"
        add = partial(figures.add, "follow")
        add(f"{what}, CPU of the web server", "%", contestant.name, share, target="below 5 % of a core")
        add(f"{what}, connections to Redis", "", contestant.name, bench.connections() - others, target="at most 10")


METRICS = {
    "accept": measure_accepting,
    "posts": measure_posts,
    "run": measure_running,
    "wait": measure_waiting,
    "follow": measure_following,
}
ONCE = {"wait", "follow"}  # they take long, and say the same each time


def made(queue: Queue, folder: Path) -> Path:
    """The queue's project in this folder, its dependencies installed: made there unless there is one."""
    project = folder / queue.answer / "my-chat"
    project.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr):
        env = dev.environment(dev.find_uv("[benchmark]"))
        env["UV_EXCLUDE_NEWER"] = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["tool"]["uv"][
            "exclude-newer"
        ]
        if not project.exists():
            dev.render("[benchmark]", project.parent, queue.answer, env)
            with (project / "app" / "jobs" / "tasks.py").open("a", encoding="utf-8") as tasks:
                tasks.write(TASK)
        advice = "check the network if a download failed"
        dev.run(
            "[benchmark] installing its dependencies", [env["UV"], "sync", "--quiet", "--locked"], env, advice, project
        )
    return project


@contextmanager
def redis_server(python: Path, project: Path) -> Iterator[str]:
    """A Valkey that keeps an append-only file, as the project's compose file has it; gives its URL."""
    with started((python, HERE / "job_server.py"), environment(project)) as (process, errors):
        port = line_of(process, START_SECONDS)
        if not port:
            raise TroubleError(f"Valkey did not start:\n{errors()}")
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            assert process.stdin
            process.stdin.close()  # it stops its server then
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)


@contextmanager
def bench_of(queue: Queue, folder: Path) -> Iterator[Bench]:
    project = made(queue, folder)
    python = dev.programs(project / ".venv") / "python"
    with redis_server(python, project) as url, redis.Redis.from_url(url) as server:
        yield Bench(queue, project, python, url, server)


def measure(bench: Bench, sizes: Sizes, metrics: list[str], limit_seconds: float, figures: Figures) -> None:
    """Begins no further round that would end behind the limit, on a machine that is slow or busy."""
    start = time.monotonic()
    for metric in (metric for metric in metrics if metric in ONCE):
        say(f"{bench.queue.label}: {metric}")
        METRICS[metric](bench, sizes, figures)
    repeated = [metric for metric in metrics if metric not in ONCE]
    for number in range(sizes.rounds if repeated else 0):
        began = time.monotonic()
        bench.number = number
        for metric in repeated:
            say(f"{bench.queue.label}: {metric}, round {number + 1} of {sizes.rounds}")
            METRICS[metric](bench, sizes, figures)
        if number + 1 < sizes.rounds and 2 * time.monotonic() - began - start > limit_seconds:
            say(f"no round after this one: it would end after {limit_seconds:.0f} s (--rounds N insists)")
            break


def about(bench: Bench) -> dict[str, Any]:
    """What was measured on, the versions being the project's."""
    code = "import platform, sys; from importlib.metadata import version\nprint('Python', platform.python_version())"
    code += "\nfor name in sys.argv[1:]: print(name, version(name))"
    command = [str(bench.python), "-c", code, *bench.queue.libraries]
    printed = subprocess.check_output(command, encoding="utf-8", timeout=START_SECONDS)
    server = bench.server.info("server")
    name = str(server.get("server_name", "redis")).capitalize()
    version = str(server.get(f"{name.lower()}_version", server["redis_version"]))
    return machine(dict(line.split() for line in printed.splitlines()) | {name: version})


def as_json(queue: Queue, machine: Mapping[str, Any], figures: Figures, sizes: Sizes) -> dict[str, Any]:
    rows = [
        {
            "metric": figure.metric,
            "figure": figure.name,
            "unit": figure.unit,
            "target": figure.target,
            "values": {name: figure.value(name) for name in figure.rounds},
            "ratios": {name: figure.ratio(name) for name in figure.rounds},
            "rounds": figure.rounds,
        }
        for figure in figures.values()
    ]
    return {
        "queue": queue.answer,
        "baseline": queue.baseline,
        "machine": machine,
        "sizes": asdict(sizes),
        "figures": rows,
    }


def as_markdown(queue: Queue, machine: Mapping[str, Any], figures: Figures) -> str:
    most = max(len(values) for figure in figures.values() for values in figure.rounds.values())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    head = ["", *(each.label for each in queue.contestants), "target"]
    rows = [
        [figure.title, *(figure.cell(each.name) for each in queue.contestants), figure.target]
        for figure in figures.values()
    ]
    return "\n".join(
        [
            f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {versions}, append-only file on.",
            f"Medians of {most} round{'s' * (most > 1)} (what waits or follows: one); in brackets, multiples of "
            f"{queue.contestants[0].label} called bare, in an `async def` endpoint.",
            "",
            *table(head, rows),
        ]
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jobs.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else, on stdout")
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="draw the figures into this file")
    parser.add_argument("--quick", action="store_true", help="much smaller numbers of all: to see that it works")
    parser.add_argument("--only", choices=METRICS, help="measure this alone")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"default: {Sizes.rounds}, with --quick 1")
    parser.add_argument(
        "--projects",
        type=Path,
        metavar="FOLDER",
        help="keep the projects here, and measure those that are here already",
    )
    options = parser.parse_args(arguments)
    if sys.platform == "win32":
        parser.error("Linux or macOS is needed: there is no Valkey for Windows")
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
    metrics = [options.only] if options.only else list(METRICS)
    signal.signal(signal.SIGTERM, interrupt)  # so that what was started is stopped then, too
    reports = []
    try:
        allow_descriptors(2 * sizes.followers)
        with tempfile.TemporaryDirectory() as scratch:
            for queue in QUEUES:
                with bench_of(queue, (options.projects or Path(scratch)).absolute()) as bench:
                    figures = Figures(queue.baseline)
                    measured_on = about(bench)
                    measure(bench, sizes, metrics, math.inf if options.rounds else LIMIT_SECONDS, figures)
                reports.append((queue, measured_on, figures))
        if options.json:
            print(json.dumps([as_json(*report, sizes) for report in reports], indent=2))
        else:
            print("\n\n".join(as_markdown(*report) for report in reports))
        if options.plot:
            for queue, measured_on, figures in reports:
                dots = {each.name: (each.label, each.colour, 95 if each == OURS else 45) for each in queue.contestants}
                plot(
                    figures.values(),
                    dots,
                    queue.baseline,
                    measured_on,
                    options.plot,
                    "less is better, but of jobs a second",
                )
    except (TroubleError, dev.TroubleError, OSError, HTTPException, redis.RedisError) as trouble:
        say(f"jobs.py: {trouble}")
        return 1
    except KeyboardInterrupt:
        say("jobs.py: stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

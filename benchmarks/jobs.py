#!/usr/bin/env python3
"""Measures what durable jobs cost, and what dies with a worker: this template beside each queue library called bare.

    uv run --group bench python benchmarks/jobs.py

Renders a project for each queue, with two tasks of its own, and starts a Valkey with an append-only file and, where
there is one to start, a RabbitMQ; on Linux or macOS. In each round all contestants are measured one after another, the
first of a round being another each time; a figure is the median over the rounds, and so is its ratio to the bare
library in the same round: noise of the machine hits all alike. A worker does one job at a time, whoever's it is
(Celery's with `--concurrency 1`, Dramatiq's with `--processes 1 --threads 1`); all else of a library is as it comes.
"""

import argparse
import json
import math
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import redis
import sessions
from bare_jobs import HOLD_SECONDS
from job_bench import (
    ANSWER_SECONDS,
    DOCUMENT,
    JOBS_SECONDS,
    LOOK_SECONDS,
    QUEUES,
    START_SECONDS,
    Bench,
    Queue,
    Workers,
    bench_of,
    has_rabbitmq,
    rabbitmq,
    rabbitmq_version,
)
from measuring import (
    Figure,
    Figures,
    Panel,
    TroubleError,
    allow_descriptors,
    machine,
    picture,
    plot,
    positive,
    say,
    short,
    stop_on_signals,
    table,
)

LIMIT_SECONDS = 660.0
ACCEPTED = "a job accepted, wall clock"
RATE = "trivial jobs a second, one worker"
AGAIN = "a killed worker's job runs again after, median"
LOST = "jobs lost, or not done in time"
TWICE = "jobs that ended more than once"
SUMMARY = (("accept", ACCEPTED), ("run", RATE), ("kill", AGAIN), ("kill", LOST), ("kill", TWICE))


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `--quick` shrinks all of it."""

    rounds: int = 3
    accepted: int = 850  # with those before, fewer than a backend may hold, so that the relay hands over all of them
    warm: int = 100
    posts: int = 50
    bursts: int = 5
    stall_seconds: float = 1.0
    jobs: int = 900  # as above; of a worker that starts a process for each
    forked: int = 300
    workers: int = 2
    held: int = 60
    kills: int = 3
    recovery_seconds: float = 40.0  # behind the last kill
    waiting: int = 10_000
    settle_seconds: float = 3.0
    idle_seconds: float = 20.0  # a whole number of heartbeats
    followers: int = 500


# A trivial job may cost 0.3 ms, and the kernel counts CPU in steps of 10: hence so many.
QUICK = Sizes(1, 30, 5, 5, 1, 0.2, 150, 20, 1, 12, 1, 0.3, 30, 0.2, 0.4, 5)


def measure_accepting(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What it costs to accept a job, one after the other, and what it takes of Redis."""
    add = partial(figures.add, "accept")
    for contestant in bench.in_turn(workers=True):
        bench.flush()
        ours, name, per = contestant == bench.queue.ours, contestant.name, 1e6 / sizes.accepted
        with bench.accepting(contestant) as accepting:
            cpu = bench.redis_cpu()
            took = accepting("accept", sizes.accepted, sizes.warm)
            cpu = bench.redis_cpu() - cpu
            add(ACCEPTED, "us", name, took["seconds"] * per, target="at most 1.5x")
            add("a job accepted, CPU of the process", "us", name, took["cpu"] * per)
            if ours:
                relayed = accepting("relay")
                each = 1e6 / relayed["jobs"]
                add("a job handed over by the relay, CPU", "us", name, relayed["cpu"] * each)
                add("a job handed over by the relay, wall clock", "us", name, relayed["seconds"] * each)
            if ours or not bench.queue.on_rabbitmq:
                add("a job accepted, CPU of Redis", "us", name, max(cpu, 1e-6) / took["jobs"] * 1e6)
                keys, size = bench.kept()
                add("a job that waits, in Redis", "KiB", name, size / took["jobs"] / 1024)
                add("keys of a job that waits", "", name, keys / took["jobs"], compared=False)
            if ours:
                bench.flush()
                took = accepting("accept_relaying", sizes.accepted, sizes.warm)
                add("a job accepted, the relay beside, wall clock", "us", name, took["seconds"] * per)
                add("a job accepted, the relay beside, CPU of both", "us", name, took["cpu"] * per)


def measure_attempts(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What an attempt at a trivial job costs beside its body: all in one process, without a queue in between."""
    contestant = bench.queue.ours
    bench.flush()
    with bench.accepting(contestant) as accepting:
        accepting("accept", sizes.accepted, sizes.warm)
        took = accepting("attempt", sizes.warm)
    for name, unit, value in (
        ("round trips to Redis", "", took["reads"]),
        ("wall clock", "us", took["seconds"] * 1e6),
        ("CPU", "us", took["cpu"] * 1e6),
    ):
        figures.add("attempt", f"an attempt at a trivial job, {name}", unit, contestant.name, value / took["jobs"])


def measure_posts(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What a web server's event loop has to stand while documents are posted to it, many at once."""
    for contestant in bench.in_turn():
        bench.flush()
        with bench.serving(contestant) as web:
            web.burst(sizes.posts)
            for paused in (False, True):
                stalls, middles, totals = [], [], []
                for _ in range(1 if paused else sizes.bursts):
                    with bench.stalled(sizes.stall_seconds) if paused else nullcontext():
                        stall, seconds = web.burst(sizes.posts)
                    stalls.append(stall)
                    middles.append(statistics.median(seconds))
                    totals.append(max(seconds))
                what = f"{sizes.posts} posts at once" + (
                    f", Redis stalled for {sizes.stall_seconds:g} s" if paused else ""
                )
                for name, values in (
                    ("longest stall of the loop", stalls),
                    ("answered, p50", middles),
                    ("answered, all", totals),
                ):
                    value = statistics.median(values) * 1e3
                    figures.add("posts", f"{what}: {name}", "ms", contestant.name, value)


def measure_running(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """Trivial jobs through one worker that has done some already. It is stopped until all of them wait for it."""
    add = partial(figures.add, "run")
    number = sizes.forked if bench.queue.forks else sizes.jobs
    for contestant in bench.in_turn(workers=True):
        bench.flush()
        accept = "accept_relaying" if contestant == bench.queue.ours else "accept"
        with ExitStack() as stack:
            worker = stack.enter_context(bench.working(contestant))
            accepting = stack.enter_context(bench.accepting(contestant))
            accepting(accept, number // 10, 0)
            worker.until(lambda: bench.journal.count() >= number // 10, "done its first jobs")
            with worker.stopped():
                bench.journal.clear()
                accepting(accept, number, 0)
                cpu = sessions.cpu_seconds(worker.session) if sessions.HAS_CPU else 0
            worker.until(lambda: bench.journal.count() >= number, "done its jobs")
            cpu = sessions.cpu_seconds(worker.session) - cpu if sessions.HAS_CPU else 0
        ends = [entry.at for entry in bench.journal.entries()]
        add(RATE, "1/s", contestant.name, (len(ends) - 1) / (max(ends) - min(ends)), target="at least 0.7x")
        if sessions.HAS_CPU:
            add("a trivial job, CPU of the worker's processes", "ms", contestant.name, cpu / number * 1e3)


def measure_kills(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    """What dies with a worker: one after the other is killed in the middle of a job."""
    add = partial(figures.add, "kill")
    for contestant in bench.in_turn(workers=True):
        bench.flush()
        with ExitStack() as stack:
            workers = Workers(bench, contestant, sizes.workers, stack)
            accepting = stack.enter_context(bench.accepting(contestant))
            if contestant == bench.queue.ours:
                stack.enter_context(bench.serving(contestant))  # for its relay
            accepting("hold", sizes.held)
            for number in range(1, sizes.kills + 1):
                workers.wait_for_begun(number * sizes.held // (sizes.kills + 1))
                workers.kill_one()
            deadline = time.monotonic() + sizes.recovery_seconds
            while len(workers.ends()) < sizes.held or workers.in_a_job():
                if time.monotonic() > deadline:
                    break
                time.sleep(LOOK_SECONDS)
        ends = workers.ends()
        if again := workers.recoveries():
            add(AGAIN, "s", contestant.name, statistics.median(again))
            add("the same, the longest", "s", contestant.name, max(again))
        add(LOST, f"of {sizes.held}", contestant.name, sizes.held - len(ends), compared=False, target="none")
        add(TWICE, f"of {sizes.held}", contestant.name, sum(times > 1 for times in ends.values()), compared=False)


def rq_messages(bench: Bench) -> int:
    return bench.server.llen(f"rq:queue:{bench.queue_name(bench.queue.ours)}")


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
                    accepting("accept", sizes.waiting, 0)
                settled(partial(rq_messages, bench), sizes.settle_seconds)
                share = web.cpu_share(sizes.idle_seconds)
                what = f"{sizes.waiting:,} jobs wait and no worker is there"
                add(f"web server while {what}, CPU", "%", contestant.name, share, target=target)
                add(f"messages in the queue while {what}", "", contestant.name, rq_messages(bench))


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
    "attempt": measure_attempts,
    "posts": measure_posts,
    "run": measure_running,
    "kill": measure_kills,
    "wait": measure_waiting,
    "follow": measure_following,
}
ONCE = {"kill", "wait", "follow"}  # they take long


def measure(benches: Mapping[Queue, Bench], sizes: Sizes, only: str | None, limit_seconds: float) -> list[Figures]:
    """Begins no further round that would end behind the limit, on a machine that is slow or busy."""
    start = time.monotonic()
    figures = {queue: Figures(queue.baseline.name) for queue in benches}
    asked = [(queue, metric) for queue in benches for metric in queue.metrics if only in (None, metric)]
    repeated = [(queue, metric) for queue, metric in asked if metric not in ONCE]
    for queue, metric in asked:
        if metric in ONCE:
            say(f"{queue.label}: {metric}")
            METRICS[metric](benches[queue], sizes, figures[queue])
    for number in range(sizes.rounds if repeated else 0):
        began = time.monotonic()
        for queue, metric in repeated:
            say(f"{queue.label}: {metric}, round {number + 1} of {sizes.rounds}")
            benches[queue].number = number
            METRICS[metric](benches[queue], sizes, figures[queue])
        if number + 1 < sizes.rounds and 2 * time.monotonic() - began - start > limit_seconds:
            say(f"no round after this one: it would end after {limit_seconds:.0f} s (--rounds N insists)")
            break
    return list(figures.values())


def about(bench: Bench) -> dict[str, Any]:
    """What was measured on, the versions being the project's."""
    code = "import platform, sys; from importlib.metadata import version\nprint('Python', platform.python_version())"
    code += "\nfor name in sys.argv[1:]: print(name, version(name))"
    command = [str(bench.python), "-c", code, *bench.queue.libraries, "fastapi", "uvicorn"]
    printed = subprocess.check_output(command, encoding="utf-8", timeout=START_SECONDS)
    server = bench.server.info("server")
    name = str(server.get("server_name", "redis")).capitalize()
    version = str(server.get(f"{name.lower()}_version", server["redis_version"]))
    versions = dict(line.split() for line in printed.splitlines()) | {name: version}
    if bench.queue.on_rabbitmq:
        versions["RabbitMQ"] = rabbitmq_version(bench.broker_url)
    return machine(versions)


class Report(NamedTuple):
    queue: Queue
    machine: Mapping[str, Any]
    sizes: Sizes
    figures: Figures

    def in_order(self) -> list[Figure]:
        return sorted(self.figures.values(), key=lambda figure: list(METRICS).index(figure.metric))

    def as_json(self) -> dict[str, Any]:
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
            for figure in self.in_order()
        ]
        return {
            "queue": self.queue.answer,
            "baseline": self.queue.baseline.name,
            "machine": self.machine,
            "sizes": asdict(self.sizes),
            "figures": rows,
        }

    def as_markdown(self) -> str:
        contestants, sizes = self.queue.contestants, self.sizes
        most = max(len(values) for figure in self.figures.values() for values in figure.rounds.values())
        versions = ", ".join(f"{name} {version}" for name, version in self.machine["versions"].items())
        once = ", ".join(metric for metric in self.queue.metrics if metric in ONCE)
        head = [self.queue.label, *(each.label for each in contestants), "target"]
        rows = [
            [figure.title, *(figure.cell(each.name) for each in contestants), figure.target]
            for figure in self.in_order()
        ]
        lines = [
            f"{self.machine['cpu']}, {self.machine['cores']} cores, {self.machine['system']}; {versions}, append-only "
            "file on.",
            f"Medians of {most} round{'s' * (most > 1)} ({once}: one); in brackets, multiples of "
            f"{self.queue.baseline.label} called bare, in an `async def` endpoint.",
        ]
        if any(figure.metric == "kill" for figure in self.figures.values()):
            lines.append(
                f"{sizes.held} jobs of {HOLD_SECONDS:g} s, {sizes.workers} workers; {sizes.kills} times one is "
                f"killed within a job; in time is {sizes.recovery_seconds:g} s after the last kill."
            )
        return "\n".join([*lines, "", *table(head, rows)])


def summary(reports: Sequence[Report]) -> list[str]:
    """A table of one line for each queue: ours, and the library called bare."""
    titles = {key: figure.title for report in reports for key, figure in report.figures.items() if key in SUMMARY}
    columns = [key for key in SUMMARY if key in titles]

    def cell(report: Report, key: tuple[str, str]) -> str:
        rounds = report.figures[key].rounds if key in report.figures else {}
        pair = (report.queue.ours.name, report.queue.baseline.name)
        return " / ".join(short(report.figures[key].value(name)) if name in rounds else "-" for name in pair)

    head = ["this template / the library called bare", *(titles[key] for key in columns)]
    return table(head, ([report.queue.label, *(cell(report, key) for key in columns)] for report in reports))


def draw(reports: Sequence[Report], to: Path) -> None:
    panels = []
    for report in reports:
        queue = report.queue
        dots = {each.name: (each.label, each.colour, 45) for each in queue.contestants}
        dots[queue.baseline.name] = ("the library called bare", queue.baseline.colour, 45)
        dots[queue.ours.name] = (queue.ours.label, queue.ours.colour, 95)
        panels.append(Panel(report.in_order(), dots, queue.baseline.name, queue.label))
    plot(panels, reports[0].machine, to, "less is better, but of jobs a second")


def chosen(parser: argparse.ArgumentParser, asked: Sequence[str], metric: str | None) -> list[Queue]:
    """What was asked for, or all that this machine and the metric allow."""
    found = []
    for queue in (queue for queue in QUEUES if not asked or queue.answer in asked):
        lacking = ""
        if queue.on_rabbitmq and not has_rabbitmq():
            lacking = "there is no rabbitmq-server on this machine"
        elif metric and metric not in queue.metrics:
            lacking = f"{metric} is not measured for it"
        if not lacking:
            found.append(queue)
        elif asked:
            parser.error(f"argument --queue: {queue.answer}: {lacking}")
        else:
            say(f"{queue.label} is left out: {lacking}")
    return found


def measured(queues: Sequence[Queue], sizes: Sizes, only: str | None, folder: Path, limit: float) -> list[Report]:
    with ExitStack() as stack:
        on_rabbitmq = any(queue.on_rabbitmq for queue in queues)
        url = stack.enter_context(rabbitmq()) if on_rabbitmq else ""
        benches = {queue: stack.enter_context(bench_of(queue, folder, url)) for queue in queues}
        machines = [about(bench) for bench in benches.values()]
        figures = measure(benches, sizes, only, limit)
    return [Report(*each) for each in zip(queues, machines, [sizes] * len(queues), figures, strict=True)]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jobs.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else, on stdout")
    parser.add_argument("--plot", type=picture, metavar="FILE.png", help="draw the figures into this file")
    parser.add_argument("--quick", action="store_true", help="much smaller numbers of all: to see that it works")
    parser.add_argument("--only", choices=METRICS, help="measure this alone")
    parser.add_argument(
        "--queue",
        action="append",
        default=[],
        choices=[queue.answer for queue in QUEUES],
        help="measure this alone, or, given more than once, these; default: all",
    )
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
    queues = chosen(parser, options.queue, options.only)
    stop_on_signals()
    try:
        allow_descriptors(2 * sizes.followers)
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.projects or Path(scratch)).absolute()
            limit = math.inf if options.rounds else LIMIT_SECONDS
            reports = measured(queues, sizes, options.only, folder, limit)
        if options.json:
            print(json.dumps([report.as_json() for report in reports], indent=2))
        else:
            tables = (report.as_markdown() for report in reports)
            print("\n\n".join(["\n".join(summary(reports)), *tables]))
        if options.plot:
            draw(reports, options.plot)
    except (TroubleError, OSError, HTTPException, redis.RedisError) as trouble:
        say(f"jobs.py: {trouble}")
        return 1
    except KeyboardInterrupt:
        say("jobs.py: stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

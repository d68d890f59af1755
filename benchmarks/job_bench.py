"""What `jobs.py` measures: each queue's project and servers, the processes of its contestants, and what jobs note."""

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import pika  # type: ignore[import-untyped]
import redis
import sessions
from measuring import TroubleError, environment, line_of, started
from projects import made, python_of, troubles

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))
from needs import NEEDS  # noqa: E402
from rabbitmq import FOLDER, GREETING, rabbitmq_server, shared_url  # noqa: E402 - of its own, as the tests have one

TASKS = """
from bare_jobs import HOLD_SECONDS, note


class Number(BaseModel):
    number: int


@task()
async def nothing(context: JobContext, payload: Number) -> None:
    note("end", payload.number)


@task()
async def hold(context: JobContext, payload: Number) -> None:
    note("begin", payload.number)
    await asyncio.sleep(HOLD_SECONDS)
    note("end", payload.number)
"""
DOCUMENT = json.dumps({"title": "A title", "text": "Some words of a document. " * 40})
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
JOBS_SECONDS = 300.0  # far above what any number of jobs takes here
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Contestant:
    name: str  # of job_contestants.py
    label: str
    colour: str
    # Python's arguments, {number} being another one for each; none, where only its endpoint differs from another's.
    worker: tuple[str, ...] = ()
    queue: str = ""  # the name that a library has for its queue, where it isn't told one


@dataclass(frozen=True)
class Queue:
    """The template's variant for a queue library, and who is measured: the first is the library called bare."""

    answer: str
    label: str
    libraries: tuple[str, ...]
    contestants: tuple[Contestant, ...]
    metrics: tuple[str, ...] = ("accept", "run", "kill")
    forks: bool = False  # whether a worker starts a process for each job

    @property
    def baseline(self) -> Contestant:
        return self.contestants[0]

    @property
    def ours(self) -> Contestant:
        return self.contestants[-1]

    @property
    def on_rabbitmq(self) -> bool:
        return self.answer.endswith("-rabbitmq")


def ours(*options: str) -> Contestant:
    return Contestant("ours", "this template", "#2f8f4e", ("-m", "app.worker", *options))


# Each worker does one job at a time, as those of RQ do. All else is as the libraries have it, but that two workers on
# one host need two names, as Celery's own guide says.
ALONE = {"celery": ("--concurrency", "1"), "dramatiq": ("--processes", "1", "--threads", "1")}
CELERY = ("-m", "celery", "-A", "bare_celery", "worker", "--hostname", "bare{number}@%h", *ALONE["celery"])
RQ = (
    Contestant("rq", "RQ", "#e45756", (str(HERE / "job_contestants.py"), "rq", "worker")),
    Contestant("rq_threads", "RQ in a `def` endpoint", "#f2a541"),
    ours(),
)
ON_CELERY = (Contestant("celery", "Celery", "#e45756", CELERY, "celery"), ours(*ALONE["celery"]))
DRAMATIQ = ("-m", "dramatiq", "bare_dramatiq", *ALONE["dramatiq"])
ON_DRAMATIQ = (Contestant("dramatiq", "Dramatiq", "#e45756", DRAMATIQ, "default"), ours(*ALONE["dramatiq"]))
# What an attempt costs, and a web server that waits or is followed, is the same whichever library carries the jobs; how
# long a server's loop stands still while it posts them differs little between two libraries that are called alike.
QUEUES = (
    Queue("rq", "RQ", ("rq", "redis"), RQ, ("accept", "attempt", "posts", "run", "kill", "wait", "follow"), forks=True),
    Queue("celery-redis", "Celery on Redis", ("celery", "redis"), ON_CELERY, ("accept", "posts", "run", "kill")),
    Queue("celery-rabbitmq", "Celery on RabbitMQ", ("celery", "amqp", "redis"), ON_CELERY),
    Queue("dramatiq-redis", "Dramatiq on Redis", ("dramatiq", "redis"), ON_DRAMATIQ),
    Queue("dramatiq-rabbitmq", "Dramatiq on RabbitMQ", ("dramatiq", "pika", "redis"), ON_DRAMATIQ),
)


class Entry(NamedTuple):
    """What a job has noted: that it begins, or that it has ended. `session` is that of its worker, `at` the time."""

    what: str
    number: int
    at: float
    session: int


@dataclass(frozen=True)
class Journal:
    """A file that no crash takes with it."""

    path: Path

    def clear(self) -> None:
        self.path.write_bytes(b"")  # who has it open goes on at its end

    def count(self) -> int:
        return self.path.read_bytes().count(b"\n")

    def entries(self) -> list[Entry]:
        lines = (line.split() for line in self.path.read_text("utf-8").splitlines())
        return [Entry(what, int(number), float(at), int(session)) for what, number, at, session in lines]


@dataclass
class Bench:
    """One queue's project and its servers, and what is started of them."""

    queue: Queue
    project: Path
    python: Path
    redis_url: str
    server: redis.Redis
    broker_url: str
    journal: Journal
    number: int = 0  # of the round
    workers: int = 0  # that have been started

    def in_turn(self, *, workers: bool = False) -> list[Contestant]:
        """The first is another in each round; on request only those with a worker of their own."""
        contestants = [each for each in self.queue.contestants if each.worker or not workers]
        first = self.number % len(contestants)
        return contestants[first:] + contestants[:first]

    def queue_name(self, contestant: Contestant) -> str:
        # Of ours not the same for two libraries: on one RabbitMQ, each would find the other's, which it can't use.
        return contestant.queue or f"{contestant.name}.{self.queue.answer}"

    def env(self, contestant: Contestant) -> dict[str, str]:
        names = {
            "REDIS_URL": self.redis_url,
            "BROKER_URL": self.broker_url,
            "QUEUE_NAME": self.queue_name(contestant),
            "JOURNAL": str(self.journal.path),
            "PYTHONPATH": str(HERE),
        }
        return environment(self.project) | names

    def flush(self) -> None:
        self.server.flushall()
        if self.queue.on_rabbitmq:
            self.purge()
        self.journal.clear()

    def purge(self) -> None:
        """Of what Dramatiq has beside its queue, too: what is delayed or dead."""
        names = [
            self.queue_name(contestant) + own for contestant in self.queue.contestants for own in ("", ".DQ", ".XQ")
        ]
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.broker_url))) as connection:
            for name in names:
                with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):  # there is none of that name
                    connection.channel().queue_purge(name)

    def redis_cpu(self) -> float:
        info = self.server.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def connections(self) -> int:
        return len(self.server.client_list())

    @contextmanager
    def stalled(self, seconds: float) -> Iterator[None]:
        """Stops the server for a while, from now on."""
        pid = int(self.server.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        again = threading.Timer(seconds, os.kill, (pid, signal.SIGCONT))
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

    @contextmanager
    def working(self, contestant: Contestant) -> Iterator["Worker"]:
        self.workers += 1
        command = (self.python, *(each.format(number=self.workers) for each in contestant.worker))
        with started(command, self.env(contestant), self.project, talks=False, session=True) as (process, errors):
            yield Worker(contestant, process, errors)


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
class Worker:
    """A worker, with all that it has started."""

    contestant: Contestant
    process: subprocess.Popen[bytes]
    errors: Callable[[], str]

    @property
    def session(self) -> int:
        return self.process.pid

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing at all for as long as the block takes."""
        sessions.stop(self.session)
        try:
            yield
        finally:
            sessions.go_on(self.session)

    def until(self, holds: Callable[[], bool], what: str, seconds: float = JOBS_SECONDS) -> None:
        """Wait for what it should do."""
        deadline = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TroubleError(f"{self.contestant.label}: the worker has not {what}:\n{self.errors()}")
            time.sleep(LOOK_SECONDS)


class Workers:
    """Some workers of a contestant. One that is killed has a successor at once, as with `restart: always`."""

    def __init__(self, bench: Bench, contestant: Contestant, count: int, stack: ExitStack) -> None:
        self._start: Callable[[], Worker] = lambda: stack.enter_context(bench.working(contestant))
        self._journal = bench.journal
        self._alive = [self._start() for _ in range(count)]
        self._killed: dict[int, float] = {}  # when, by the session

    def wait_for_begun(self, jobs: int) -> None:
        def begun() -> bool:
            return len({entry.number for entry in self._journal.entries()}) >= jobs

        self._alive[0].until(begun, f"begun {jobs} jobs")

    def in_a_job(self) -> list[Worker]:
        """Each does one job at a time."""
        last = {entry.session: entry.what for entry in self._journal.entries()}
        return [worker for worker in self._alive if last.get(worker.session) == "begin"]

    def kill_one(self) -> None:
        """In the middle of a job, with all that it has started."""
        while True:
            self._alive[0].until(lambda: bool(self.in_a_job()), "begun a job to be killed in", START_SECONDS)
            victim = self.in_a_job()[0]
            sessions.stop(victim.session)
            if victim in self.in_a_job():  # else the job was faster
                break
            sessions.go_on(victim.session)
        self._killed[victim.session] = time.time()
        sessions.kill(victim.session)
        self._alive[self._alive.index(victim)] = self._start()

    def recoveries(self) -> list[float]:
        """The seconds from each kill until the job that it cut off ran again; nothing where it did not."""
        noted: dict[int, list[Entry]] = {}
        for entry in self._journal.entries():
            noted.setdefault(entry.number, []).append(entry)
        return [
            after.at - self._killed[before.session]
            for entries in noted.values()
            for before, after in pairwise(entries)
            if (before.what, after.what) == ("begin", "begin") and before.session in self._killed
        ]

    def ends(self) -> Counter[int]:
        """How often each job has ended."""
        return Counter(entry.number for entry in self._journal.entries() if entry.what == "end")


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


def add_tasks(project: Path) -> None:
    """The benchmark's, unless it has them."""
    tasks = project / "app" / "jobs" / "tasks.py"
    if TASKS not in (text := tasks.read_text("utf-8")):
        tasks.write_text(text + TASKS, "utf-8")


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


def has_rabbitmq() -> bool:
    return NEEDS["rabbitmq"].path() is not None


@contextmanager
def rabbitmq() -> Iterator[str]:
    """A RabbitMQ of this run's own, or of the test run that this one is part of; gives its URL."""
    if FOLDER in os.environ:
        yield shared_url()
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        with troubles(AssertionError):
            server = stack.enter_context(rabbitmq_server(Path(folder)))
        yield server.url


def rabbitmq_version(url: str) -> str:
    """As it says in `connection.start`, the first that it sends."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), ANSWER_SECONDS) as connection:
        connection.sendall(GREETING)
        found = re.search(rb"\x07versionS.{4}([\d.]+)", connection.recv(65_536), re.DOTALL)
    return found[1].decode() if found else "unknown"


@contextmanager
def bench_of(queue: Queue, folder: Path, rabbitmq_url: str) -> Iterator[Bench]:
    project = made(folder / queue.answer, queue.answer, change=add_tasks)
    python = python_of(project)
    with (
        redis_server(python, project) as url,
        redis.Redis.from_url(url) as server,
        tempfile.TemporaryDirectory() as scratch,
    ):
        broker = rabbitmq_url if queue.on_rabbitmq else url
        yield Bench(queue, project, python, url, server, broker, Journal(Path(scratch, "journal")))

"""What crash tests are made of: a project with tasks that keep a journal, and workers that are killed and replaced."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self
from uuid import uuid4

import httpx
import httpx_sse
import pika  # type: ignore[import-untyped]
from needs import NEEDS
from redis import Redis
from rendering import Project, environment, exclusive, named
from running import Process, Server, python_of, request, running

ADDED = Path(__file__).parent / "crash"
TICK_SECONDS = 0.02
REQUEST_TICK_SECONDS = 0.32
PATIENCE_SECONDS = 180.0  # before what is waited for is taken for lost: some times what a busy machine needs
LEASE_SECONDS = 3.0  # a fifth of the default, and of the time that an orphan waits
AHEAD = 20
SOME = 10  # jobs of one request
AT_ONCE = 50  # jobs that one request asks for


def until(
    holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS, longest: float = TICK_SECONDS
) -> None:
    """Wait until it holds, and look less and less often: `longest`, where a look is work for others too."""
    deadline, pause_seconds = time.monotonic() + seconds, TICK_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, longest)


def show(who: str, process: Process) -> None:
    """What it said last, where a test fails."""
    print(f"--- {who} ({process.pid}) said last:", process.text[-1500:], sep="\n")


def pause(seconds: float) -> None:
    """Where the length of time is what is tested, and nothing can be waited for."""
    threading.Event().wait(seconds)


class Entry(NamedTuple):
    """What an attempt at a job has written: its beginning, its end, its cleanup. `session` is that of its worker."""

    what: str
    job: str
    attempt: int
    number: int
    at: float
    session: int


class Journal:
    """What all attempts have written, in the order in which they did: a file, which no crash takes with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self._entries: defaultdict[str, list[Entry]] = defaultdict(list)
        self._jobs: defaultdict[str, set[str]] = defaultdict(set)
        self._read = 0
        self._reading = threading.Lock()

    def all(self, what: str) -> list[Entry]:
        self._go_on()
        return list(self._entries[what])

    def of(self, job: str, what: str = "begin") -> list[Entry]:
        return [entry for entry in self.all(what) if entry.job == job]

    def jobs(self, what: str) -> Set[str]:
        self._go_on()
        return self._jobs[what]

    def wait(self, what: str, jobs: int = 1) -> list[Entry]:
        """Wait until so many jobs have written it."""
        until(lambda: len(self.jobs(what)) >= jobs, f"{what!r} of {jobs} jobs in the journal")
        return self.all(what)

    def _go_on(self) -> None:
        with self._reading, self.path.open("rb") as file:
            file.seek(self._read)
            new, newline, _ = file.read().rpartition(b"\n")
            self._read += len(new + newline)
            for line in new.splitlines():
                entry = Entry(**json.loads(line))
                self._entries[entry.what].append(entry)
                self._jobs[entry.what].add(entry.job)


class Recovery(NamedTuple):
    """How long after the kill of its worker a job ran again, and when that kill was."""

    seconds: float
    killed: float


def members(session: int) -> list[int]:
    """The processes of a session that live. A child that has a process group of its own is one of them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, *fields = Path("/proc", entry, "stat").read_text("utf-8").rpartition(") ")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == session and state not in "ZX":
                found.append(int(entry))
    return sorted(found)


def kill_session(leader: int) -> None:
    """All of its processes, and those that they start meanwhile."""
    while alive := members(leader):
        for process in alive:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


class Workers:
    """Worker processes. Supervised, each that ends has a successor at once, as with `restart: always`."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], count: int, supervised: bool) -> None:
        self._start = partial(Process, *command, cwd=cwd, env=env)
        self.processes = [self._start() for _ in range(count)]
        self.started = list(self.processes)
        self.killed: dict[int, float] = {}
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise)
        if supervised:
            self._supervisor.start()

    def kill(self, process: Process) -> None:
        self.killed[process.pid] = time.time()
        kill_session(process.pid)

    def kill_some(
        self,
        journal: Journal,
        kills: int,
        jobs: int,
        seed: int,
        in_a_job: bool = False,
        posted: Future[list[str]] | None = None,
    ) -> None:
        """Kill whole trees at random moments, spread over the time in which so many jobs begin. Those are `posted`
        meanwhile: when that fails, this raises why. The last kills find nobody if the workers are faster."""
        chance = random.Random(seed)
        for number in range(1, kills + 1):
            enough = number * jobs // (kills + 1)

            def begun(enough: int = enough) -> bool:
                if posted and posted.done():
                    posted.result()
                return len(journal.jobs("begin")) >= enough

            until(begun, f"{enough} jobs have begun")
            pause(chance.uniform(0, 0.15))
            until(
                lambda: bool(self.busy(journal, in_a_job)) or len(journal.jobs("end")) == jobs,
                "there is a worker to be killed",
            )
            if not (busy := self.busy(journal, in_a_job) or self.busy(journal)):
                break
            self.kill(chance.choice(busy))
        assert len(self.killed) > kills / 2

    def busy(self, journal: Journal, in_a_job: bool = False) -> list[Process]:
        """Those that have begun a job, or that are in the middle of one."""
        ended = {(entry.job, entry.attempt) for entry in journal.all("end")} if in_a_job else set()
        begun = [entry for entry in journal.all("begin") if (entry.job, entry.attempt) not in ended]
        sessions = {entry.session for entry in begun}
        return [process for process in self.processes if process.alive and process.pid in sessions]

    def recoveries(self, journal: Journal) -> list["Recovery"]:
        """Of each job that had begun in a worker which was killed, when it ran again."""
        attempts: dict[str, list[Entry]] = {}
        for entry in journal.all("begin"):
            attempts.setdefault(entry.job, []).append(entry)
        return sorted(
            Recovery(after.at - (killed := self.killed[before.session]), killed)
            for begun in attempts.values()
            for before, after in pairwise(begun)
        )

    def kills_between(self, start: float, end: float) -> int:
        return sum(start <= killed <= end for killed in self.killed.values())

    def close(self) -> None:
        self._closing.set()
        if self._supervisor.ident:
            self._supervisor.join()
        for process in self.started:
            kill_session(process.pid)
            process.close()

    def _supervise(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            for place, process in enumerate(self.processes):
                if not process.alive:
                    self.processes[place] = self._start()
                    self.started.append(self.processes[place])


class Broker(Protocol):
    """What a test does to a queue library behind the project's back."""

    def __init__(self, redis: Redis, queue: str, url: str) -> None: ...

    def messages(self) -> int:
        """How many wait for a worker."""

    def empty(self) -> None:
        """Take away all that the library keeps anywhere, and nothing else."""


class InRedis:
    """A list of messages, and keys of the library around it."""

    def __init__(self, redis: Redis, queue: str, _url: str) -> None:
        self._redis = redis
        self._list, *self._keys = self.names(queue)

    @staticmethod
    def names(queue: str) -> tuple[str, ...]:
        """The list of messages, and patterns of all that the library keeps."""
        raise NotImplementedError

    def messages(self) -> int:
        return self._redis.llen(self._list)

    def empty(self) -> None:
        for pattern in self._keys:
            for key in self._redis.scan_iter(pattern):
                self._redis.delete(key)


class RQ(InRedis):
    @staticmethod
    def names(queue: str) -> tuple[str, ...]:
        return f"rq:queue:{queue}", "rq:*"


class CeleryRedis(InRedis):
    @staticmethod
    def names(queue: str) -> tuple[str, ...]:
        return queue, queue, "unacked*", "_kombu.*"


class DramatiqRedis(InRedis):
    @staticmethod
    def names(queue: str) -> tuple[str, ...]:
        return f"dramatiq:{queue}", "dramatiq:*"


class InRabbitMQ:
    """A queue, and with Dramatiq two more for what is delayed or dead."""

    def __init__(self, _redis: Redis, queue: str, url: str) -> None:
        self._queue = queue
        self._url = pika.URLParameters(url)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with closing(pika.BlockingConnection(self._url)) as connection:
            yield connection.channel()

    def messages(self) -> int:
        with self._channel() as channel:
            return int(channel.queue_declare(self._queue, passive=True).method.message_count)

    def empty(self) -> None:
        """The queues themselves too."""
        with self._channel() as channel:
            for name in (self._queue, f"{self._queue}.DQ", f"{self._queue}.XQ"):
                channel.queue_delete(name)


BROKERS: dict[str, type[Broker]] = {
    "rq": RQ,
    "celery-redis": CeleryRedis,
    "celery-rabbitmq": InRabbitMQ,
    "dramatiq-redis": DramatiqRedis,
    "dramatiq-rabbitmq": InRabbitMQ,
}


# The options with which a worker does one job at a time.
ALONE: dict[str, tuple[str, ...]] = {
    "rq": (),
    **dict.fromkeys(("celery-redis", "celery-rabbitmq"), ("--concurrency", "1")),
    **dict.fromkeys(("dramatiq-redis", "dramatiq-rabbitmq"), ("--processes", "1", "--threads", "1")),
}


class Event(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


class Web(Server):
    """A web server of the project, asked over connections that are kept."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, limits=limits)

    def post(self, task: str, **probe: Any) -> httpx.Response:
        return self.client.post(f"/tasks/{task}", json=probe)

    def add(self, task: str, key: str | None = None, **probe: Any) -> str:
        """Give the id of a job that was accepted."""
        headers = {"Idempotency-Key": key or uuid4().hex}
        return str(self._accepted(lambda: self.client.post(f"/tasks/{task}", json=probe, headers=headers))["id"])

    def add_several(self, task: str, numbers: Iterable[int], **probe: Any) -> list[str]:
        """The same in one request: what is tested is what becomes of jobs, and not how each comes."""
        probes = {uuid4().hex: {"number": number, **probe} for number in numbers}
        return list(self._accepted(lambda: self.client.post(f"/tasks/{task}/several", json=probes)))

    @staticmethod
    def _accepted(post: Callable[[], httpx.Response]) -> Any:
        """Where the store has not answered in time, as on a machine that has much else to do, this tries again as a
        client is told to: with the same keys, so that nothing becomes two jobs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            response = post()
            if response.status_code == 202:
                return response.json()
            assert response.status_code == 503, response.text
            assert time.monotonic() < deadline, response.text
            pause(float(response.headers["Retry-After"]))

    def add_many(self, task: str, count: int, **probe: Any) -> list[str]:
        with ThreadPoolExecutor(4) as posting:
            return list(posting.map(lambda number: self.add(task, number=number, **probe), range(count)))

    def add_as_they_begin(
        self, task: str, count: int, journal: Journal, *, twice: bool = False, **probe: Any
    ) -> list[str]:
        """Never far ahead of the workers: a job that runs again waits behind all others, and one that waits for long
        is handed to them more than once, which costs them time."""
        ids: list[str] = []
        while len(ids) < count:
            until(lambda: len(ids) + SOME <= len(journal.jobs("begin")) + AHEAD, "the workers go on")  # noqa: B023
            new = self.add_several(task, range(len(ids), min(len(ids) + SOME, count)), **probe)
            if twice:  # a second message right beside the first: another worker has it at the same time
                assert self.client.post("/messages", json=new).status_code == 202
            ids += new
        return ids

    def events(self, job_id: str, last_id: int = 0) -> Generator[Event, None, None]:
        """The job's events as they come; whoever stops reading closes this, and with it the connection."""
        headers = {"Last-Event-ID": str(last_id)} if last_id else {}
        with httpx_sse.connect_sse(self.client, "GET", f"/jobs/{job_id}/events", headers=headers) as source:
            for event in source.iter_sse():
                if event.data:  # of a keep-alive it makes an event without data
                    yield Event(int(event.id), event.event, event.json())

    def states(self, job_id: str) -> list[str]:
        """Of a job that has ended: each state that its followers saw."""
        return [event.data["state"] for event in self.events(job_id) if event.name == "status"]

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.client.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        record: dict[str, Any] = response.json()
        return record

    def wait(self, job_id: str, status: str) -> dict[str, Any]:
        record: dict[str, Any] = {}

        def has_it() -> bool:
            record.update(self.job(job_id))
            return bool(record["status"] == status)

        until(has_it, f"the job {job_id} is {status}", longest=REQUEST_TICK_SECONDS)
        return record

    def all_succeed(self, ids: Sequence[str]) -> None:
        """Wait until each of them has: `Nothing is lost`."""
        left = list(ids)

        def none_left() -> bool:
            """Of those behind some that still wait, nobody asks: each answer is work for the server and its Redis."""
            while some := left[:AT_ONCE]:
                response = self.client.post("/statuses", json=some)
                assert response.status_code == 200, response.text
                wait = [job_id for job_id, status in zip(some, response.json(), strict=True) if status != "succeeded"]
                left[:AT_ONCE] = wait
                if wait:
                    return False
            return True

        try:
            until(none_left, f"all of {len(ids)} jobs succeed", longest=REQUEST_TICK_SECONDS)
        finally:
            if left:
                print("not seen to succeed:", left)


def with_tasks(project: Project) -> Path:
    """A copy of the project with the tasks of these tests: one for all of the run, so that it is compiled once."""
    copy = project.path.parent.with_name(f"crash-{named(project.answers)}")
    with exclusive(copy.with_suffix(".lock")):
        if not copy.exists():
            for name in project.files():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(project.path / name, copy / name)
            for name in ("tasks.py", "routes.py"):
                with (copy / "app" / "jobs" / name).open("a", encoding="utf-8") as file:
                    file.write((ADDED / name).read_text("utf-8"))
            for name in ("stuck.py", "hour.py", "noting.py"):
                shutil.copy(ADDED / name, copy)
    return copy


class Service:
    """A copy of a rendered project with the tasks of these tests, a journal, and a queue of its own, or one that is
    given: a web server can be there for several journals, since only workers write into them."""

    def __init__(self, project: Project, folder: Path, env: Mapping[str, str], queue: str = "") -> None:
        self.path = with_tasks(project)
        self.folder = folder
        self.variant = project.answers["queue_backend"]
        self.journal = Journal(folder / "journal")
        # Not the same for two queues: on one RabbitMQ, each library would find the other's, which it can't use.
        self.queue = queue or f"crash.{self.variant}.{folder.name}.{uuid4().hex[:8]}"
        self.env = {**env, "JOURNAL": str(self.journal.path), "QUEUE_NAME": self.queue}
        self.lease(LEASE_SECONDS)
        self.python = python_of(project)

    def lease(self, seconds: float) -> None:
        """Of the processes that start from now on."""
        self.env["JOB_LEASE_SECONDS"] = str(seconds)

    def procfile(self, process: str) -> list[str]:
        """Give the command of that line, its `python` being the project's."""
        found = re.search(rf"^{process}: (.*)$", (self.path / "Procfile").read_text("utf-8"), re.MULTILINE)
        assert found, f"the Procfile says nothing of {process}"
        return [self.python if word == "python" else word for word in shlex.split(found[1])]

    @contextmanager
    def web(self, application: str = "app.main:app", **settings: str) -> Iterator[Web]:
        command = (self.python, "-m", "uvicorn", application, "--port", "0", "--no-access-log")
        with running(*command, cwd=self.path, env={**self.env, **settings}) as process:
            web = Web(process)
            try:
                with web.client:
                    yield web
            finally:
                show("the web server", process)

    @contextmanager
    def workers(
        self, count: int = 1, *, supervised: bool = False, alone: bool = False, **settings: str
    ) -> Iterator[Workers]:
        """`alone`: each does one job at a time."""
        command = [*self.procfile("worker"), *(ALONE[self.variant] if alone else ())]
        workers = Workers(command, self.path, {**self.env, **settings}, count=count, supervised=supervised)
        try:
            yield workers
        finally:
            for process in workers.processes:
                show("a worker", process)
            workers.close()


@contextmanager
def redis_server(port: int, folder: Path) -> Iterator[Process]:
    """One that keeps its data in the folder, as production's does."""
    program = NEEDS["redis"].path()
    assert program
    keeps = ("--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
    with running(program, "--port", str(port), "--bind", "127.0.0.1", *keeps, cwd=folder, env=environment()) as redis:
        redis.printed("Ready to accept connections")
        yield redis


class Answer(NamedTuple):
    status: int
    retry_after: str | None
    json: Any
    seconds: float


def at_once(
    port: int, path: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None
) -> list[Answer]:
    """Post all of them before the first answer is read. Each took at most its `seconds`."""
    connections = [HTTPConnection("127.0.0.1", port, timeout=60) for _ in bodies]
    answers = []
    try:
        for connection in connections:
            connection.connect()
        began = time.monotonic()
        for connection, body in zip(connections, bodies, strict=True):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        for connection in connections:
            response = connection.getresponse()
            answer = json.load(response)
            seconds = time.monotonic() - began
            answers.append(Answer(response.status, response.headers["Retry-After"], answer, seconds))
    finally:
        for connection in connections:
            connection.close()
    return answers


class Repeated(ABC):
    """Goes on in a thread for as long as the block does. What fails there fails the block."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.closing = threading.Event()

    @abstractmethod
    def go_on(self) -> None: ...

    def __enter__(self) -> Self:
        self._executor = ThreadPoolExecutor(1)
        self._done = self._executor.submit(self.go_on)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._executor.shutdown()
        self._done.result()


class Health(Repeated):
    """Asks /health again and again, and keeps how long each answer took."""

    def go_on(self) -> None:
        self.seconds: list[float] = []
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            while not self.closing.wait(0.005):
                began = time.monotonic()
                connection.request("GET", "/health")
                response = connection.getresponse()
                response.read()
                self.seconds.append(time.monotonic() - began)
                assert response.status == 200


class Chat(Repeated):
    """Reads an answer, and counts its words as they come."""

    words = 0

    def go_on(self) -> None:
        question = json.dumps({"question": "word " * 5000})
        with closing(request(self.port, "POST", "/chat/stream", question)) as response:
            while not self.closing.is_set():
                self.words += response.readline().startswith(b"event: token")


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes, up to this."""
    received = b""
    while end not in received:
        received += (more := connection.recv(65536))
        assert more, f"it ended before {end!r}: {received!r}"
    return received


def addresses(process: int) -> set[str]:
    """The local ends of its connections, as `CLIENT LIST` writes them."""
    inodes = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    found = set()
    for line in Path(f"/proc/{process}/net/tcp").read_text("utf-8").splitlines()[1:]:
        _, local, *fields = line.split()
        if f"socket:[{fields[7]}]" in inodes:
            host, port = local.split(":")
            found.add(f"{socket.inet_ntoa(bytes.fromhex(host)[::-1])}:{int(port, 16)}")
    return found


def cpu_seconds(process: int) -> float:
    """What it has used of a core since its start."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Provider:
    """Somebody else's service, which honours an `Idempotency-Key`: it has one effect for each, called as often as
    you like."""

    def __init__(self) -> None:
        provider, lock = self, threading.Lock()
        self.calls = 0
        self.effects: dict[str, int] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                number = int(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    provider.calls += 1
                    assert provider.effects.setdefault(self.headers["Idempotency-Key"], number) == number
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Patient(ThreadingHTTPServer):
            request_queue_size = 128  # five wait by default, and whoever comes sixth is not heard

        self._server = Patient(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

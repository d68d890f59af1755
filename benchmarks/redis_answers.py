"""What answers in Redis cost beside answers in memory: the table of `streaming.py --only redis`.

Two projects are rendered, without a queue and with one on Redis, and served by their own Python. A Valkey with an
append-only file is started for the second, of which there are two processes: one that makes answers, and one that reads
those of the other. In each round both projects are measured one after the other, the first being the other each time.
"""

import contextlib
import json
import re
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

import projects
import redis
from job_bench import redis_server
from measuring import Figures, TroubleError, environment, line_of, machine, say, started, table, versions

HERE = Path(__file__).resolve().parent
CONTESTANTS = {"memory": "in memory", "redis": "in Redis"}
QUEUES = {"memory": "none", "redis": "rq"}
BASELINE = "memory"
LIBRARIES = ("fastapi", "uvicorn", "uvloop", "redis")
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
READ_BYTES = 256 * 1024
TOKEN = re.compile(rb'\{"text":"([\d.]+)"\}')


@dataclass(frozen=True)
class Sizes:
    """How much is measured; `--quick` shrinks all of it."""

    rounds: int = 3
    rate: int = 50  # tokens a second in each answer: what a fast model does
    answers: int = 60
    tokens: int = 300  # of each
    read_answers: int = 50
    readers: int = 500  # of these
    read_seconds: float = 5.0
    settle_seconds: float = 1.0
    idle_seconds: float = 5.0


QUICK = Sizes(1, 50, 4, 20, 3, 6, 0.3, 0.2, 0.3)


@dataclass
class Stream:
    """One answer to one reader."""

    socket: socket.socket
    id: str = ""
    rest: bytes = b""
    tokens: int = 0
    whole: bool = False

    def read(self, delays: list[float]) -> bool:
        """Notes how old each token is. Returns False when there is no more."""
        data = self.rest + (read := self.socket.recv(READ_BYTES))
        now = time.monotonic()
        if not self.id:
            found = re.match(rb"HTTP/1.1 200 .*?x-stream-id: (\w+)", data, re.DOTALL | re.IGNORECASE)
            if not found:
                raise TroubleError(f"a stream was answered with {data[:300]!r}")
            self.id = found[1].decode()
        end = 0
        for token in TOKEN.finditer(data):
            delays.append(now - float(token[1]))
            end = token.end()
            self.tokens += 1
        self.rest = data[end:]
        self.whole = self.whole or b'data: {"reason":"end"}' in self.rest
        return bool(read)


@dataclass
class Readers:
    """Any number of streams, read in one thread."""

    delays: list[float] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    _open: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        for stream in self.streams:
            stream.socket.close()

    def request(self, port: int, head: str, body: str = "") -> None:
        stream = Stream(socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS))
        self.streams.append(stream)
        self._open.register(stream.socket, selectors.EVENT_READ, stream)
        lines = [f"{head} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json"]
        stream.socket.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode())

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        while not until() and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._open.select(left):
                if not key.data.read(self.delays):
                    self._open.unregister(key.data.socket)

    def read_to_end(self, tokens: int) -> None:
        self.read(ANSWER_SECONDS, lambda: not self._open.get_map())
        for stream in self.streams:
            if (stream.tokens, stream.whole) != (tokens, True):
                raise TroubleError(f"an answer of {tokens} tokens ended after {stream.tokens}: {stream.rest[-300:]!r}")


@dataclass(frozen=True)
class Server:
    contestant: str
    port: int

    def call(self, method: str, path: str, body: str | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Connection": "close", "Content-Type": "application/json"})
            try:
                response = connection.getresponse()
            except TimeoutError as error:
                raise TroubleError(f"{method} {path} was not answered in {ANSWER_SECONDS:.0f} s") from error
            answer = response.read()
            if response.status != 200:
                raise TroubleError(f"{method} {path} was answered with {response.status}: {answer[:300]!r}")
            return json.loads(answer)

    def usage(self) -> dict[str, float]:
        usage: dict[str, float] = self.call("GET", "/usage")
        return usage

    def cpu_since(self, before: Mapping[str, float]) -> float:
        return self.usage()["cpu_before"] - before["cpu_after"]

    def ask(self, readers: Readers, answers: int, tokens: int, rate: int) -> None:
        """For so many answers, evenly within the time of a token, so that they don't all have theirs at once."""
        question = json.dumps({"question": f"{tokens}-{1 / rate}"})
        for _ in range(answers):
            readers.request(self.port, "POST /chat/stream", question)
            readers.read(1 / rate / answers)
        readers.read(ANSWER_SECONDS, lambda: all(stream.id for stream in readers.streams))
        if not all(stream.id for stream in readers.streams):
            raise TroubleError(f"not all of {answers} answers began in {ANSWER_SECONDS:.0f} s")


@dataclass(frozen=True)
class Bench:
    makers: Mapping[str, Server]
    elsewhere: Server
    redis: Any

    def redis_cpu(self) -> float:
        used = self.redis.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def in_turn(self, number: int) -> list[Server]:
        servers = [*self.makers.values()]
        return servers[::-1] if number % 2 else servers


@contextmanager
def serving(made: Mapping[str, Path]) -> Iterator[Bench]:
    printed: dict[str, Callable[[], str]] = {}
    with ExitStack() as stack:

        def start(name: str, contestant: str) -> Server:
            project = made[contestant]
            env = environment(project) | {"LOG_LEVEL": "WARNING", "REDIS_URL": url, "QUEUE_NAME": "benchmark"}
            command = [projects.python_of(project), HERE / "answer_server.py"]
            process, errors = stack.enter_context(started(command, env, project))
            printed[name] = errors
            if not (port := line_of(process, START_SECONDS)):
                raise TroubleError(f"{name} did not start:\n{errors()}")
            return Server(contestant, int(port))

        try:
            url = stack.enter_context(redis_server(projects.python_of(made["redis"]), made["redis"]))
            makers = {name: start(name, name) for name in CONTESTANTS}
            elsewhere = start("another process", "redis")
            yield Bench(makers, elsewhere, stack.enter_context(redis.Redis.from_url(url)))
        except (TroubleError, OSError, HTTPException, redis.RedisError) as error:
            lines = [f"{name} printed:\n{words}" for name, errors in printed.items() if (words := errors())]
            raise TroubleError("\n".join([str(error), *lines])) from error


def measure_writing(bench: Bench, number: int, sizes: Sizes, figures: Figures) -> None:
    """What it costs to keep answers, and how old tokens are when those get them who have asked for them."""
    tokens = sizes.answers * sizes.tokens
    costs, delays, of_redis = {}, {}, {}
    for server in bench.in_turn(number):
        name, before, redis_before = server.contestant, server.usage(), bench.redis_cpu()
        with Readers() as readers:
            server.ask(readers, sizes.answers, sizes.tokens, sizes.rate)
            readers.read_to_end(sizes.tokens)
        time.sleep(sizes.settle_seconds)  # the end is written behind, too
        costs[name] = server.cpu_since(before) / tokens * 1e6
        of_redis[name] = (bench.redis_cpu() - redis_before) / tokens * 1e6
        delays[name] = statistics.quantiles(readers.delays, n=100, method="inclusive")
    add = partial(figures.add, "writing")
    for name in CONTESTANTS:
        add(f"CPU a token, {sizes.rate} a second in each of {sizes.answers} answers", "us", name, costs[name])
        add("delay of a token at its reader here, p50", "ms", name, delays[name][49] * 1e3)
        add("delay of a token at its reader here, p99", "ms", name, delays[name][98] * 1e3, target="1.1x and 10 ms")
    add("CPU a token, more than in memory", "us", "redis", costs["redis"] - costs["memory"], target="at most 60")
    add("CPU of Redis a token", "us", "redis", of_redis["redis"])


def measure_reading(bench: Bench, number: int, sizes: Sizes, figures: Figures) -> None:
    """What readers cost: in memory those of the process's own answers, in Redis those of another process's. The latter
    are followed without a connection as well: that is what it takes to look for them."""
    tokens = int(sizes.rate * (sizes.read_seconds + 3 * sizes.settle_seconds + 1))

    def cost(maker: Server, reader: Server, readers: int, follow: bool = False) -> float:
        """CPU of the reader, in % of a core."""
        with Readers() as opened:
            maker.ask(opened, sizes.read_answers, tokens, sizes.rate)
            ids = [stream.id for stream in opened.streams]
            if follow:
                reader.call("POST", "/follow", json.dumps(ids))
            for place in range(readers):
                opened.request(reader.port, f"GET /chat/stream/{ids[place % len(ids)]}")
            opened.read(sizes.settle_seconds)
            before, began = reader.usage(), time.monotonic()
            opened.read(sizes.read_seconds)
            used = reader.cpu_since(before) / (time.monotonic() - began)
            opened.read_to_end(tokens)
        return used * 100

    add = partial(figures.add, "reading")
    what = f"CPU for {sizes.readers:,} readers of {sizes.read_answers} such answers"
    for server in bench.in_turn(number):
        if server.contestant == "memory":
            add(what, "% of a core", "memory", cost(server, server, sizes.readers) - cost(server, server, 0))
        else:
            add(what, "% of a core", "redis", cost(server, bench.elsewhere, sizes.readers))
            looks = cost(server, bench.elsewhere, 0, follow=True)
            add("of it, to look for these answers", "% of a core", "redis", looks, target="under 10")


def measure_idle(bench: Bench, sizes: Sizes, figures: Figures) -> None:
    def commands() -> int:
        return int(bench.redis.info("stats")["total_commands_processed"])

    time.sleep(sizes.settle_seconds)
    before = commands()
    time.sleep(sizes.idle_seconds)
    sent = commands() - before - 1  # the question itself
    figures.add("idle", f"commands of two idle processes, in {sizes.idle_seconds:g} s", "", "redis", sent, target="0")


def descriptors(sizes: Sizes) -> int:
    return sizes.readers + sizes.answers


def measured(folder: Path, sizes: Sizes) -> Figures:
    made = {name: projects.made(folder / name, queue) for name, queue in QUEUES.items()}
    figures = Figures(BASELINE)
    with serving(made) as bench:
        for measure in (measure_writing, measure_reading):  # what is imported or cached then counts for none
            measure(bench, 0, QUICK, Figures(BASELINE))
        measure_idle(bench, sizes, figures)
        for number in range(sizes.rounds):
            say(f"answers in Redis: round {number + 1} of {sizes.rounds}")
            measure_writing(bench, number, sizes, figures)
            measure_reading(bench, number, sizes, figures)
    return figures


def as_json(figures: Figures, sizes: Sizes) -> str:
    rows = [
        {
            "metric": figure.metric,
            "figure": figure.name,
            "unit": figure.unit,
            "target": figure.target,
            "values": {name: figure.value(name) for name in figure.rounds},
            "ratio": figure.ratio("redis"),
            "rounds": figure.rounds,
        }
        for figure in figures.values()
    ]
    return json.dumps({"machine": machine(versions(LIBRARIES)), "sizes": asdict(sizes), "figures": rows}, indent=2)


def as_markdown(figures: Figures, sizes: Sizes) -> str:
    about = machine(versions(LIBRARIES))
    known = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = [[figure.title, *(figure.cell(name) for name in CONTESTANTS), figure.target] for figure in figures.values()]
    lines = [
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; {known}.",
        f"Medians of {sizes.rounds} round{'s' * (sizes.rounds > 1)}; in brackets, multiples of memory.",
    ]
    return "\n".join([*lines, "", *table(["", *CONTESTANTS.values(), "target"], rows)])

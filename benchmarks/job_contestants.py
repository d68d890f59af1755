"""The processes that `jobs.py` measures: `python job_contestants.py CONTESTANT ROLE`, by the Python of a project.

    web       prints its port, and serves `POST /documents`, `/usage` and `/probe`
    accept    accepts jobs as it is told on standard input, a command a line, and prints what that took as JSON
    worker    runs jobs, where neither the project nor the library has a command for that

`ours` is the project, whatever its queue. The others use a queue library as its own documentation shows it, with
JSON, and nothing of the project. All end with their standard input, but for the workers. What only some need is
imported there, for each start of a process takes a part of the time that a run takes.
"""

import asyncio
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import uvloop
from pydantic import BaseModel

if TYPE_CHECKING:
    from fastapi import FastAPI

PROBE_SECONDS = 0.001
LOOK_SECONDS = 0.02
CLAIMED_SECONDS = 0.005
CLAIM_SECONDS = 600.0  # longer than all attempts take
Times = dict[str, float]


class Contestant(Protocol):
    """A way to have jobs done."""

    def application(self) -> "FastAPI":
        """With a route `POST /documents` that accepts a job."""

    def accept(self, number: int, warm: int) -> Times:
        """Accept so many trivial jobs, one after the other, behind others to get warm: connections, scripts and imports
        are there then. Give what it took without those, as `measured`, and how many `jobs` there are with them."""

    def hold(self, number: int) -> Times:
        """Accept so many jobs that take a while, and note their beginning and their end."""


class Ours:
    def __init__(self) -> None:
        sys.path.insert(0, os.getcwd())

    def application(self) -> "FastAPI":
        from app.main import create_app  # type: ignore[import-not-found]

        app: FastAPI = create_app()
        return app

    def accept(self, number: int, warm: int) -> Times:
        return in_loop(self._accept("nothing", number, warm, relaying=False))

    def accept_relaying(self, number: int, warm: int) -> Times:
        """With the relay in the same process, as in a web process, until it has handed over all of them. The CPU time
        includes the relay's for these."""
        return in_loop(self._accept("nothing", number, warm, relaying=True))

    def hold(self, number: int) -> Times:
        return in_loop(self._accept("hold", number, 0, relaying=False))

    def relay(self) -> Times:
        """Hands over what has been accepted."""
        return in_loop(self._relay())

    def attempt(self, warm: int) -> Times:
        """Runs what has been accepted in this process, one attempt after the other, the first few to get warm; and
        counts the `reads` of Redis: it reads once from a client that sends and then waits for the answer."""
        return in_loop(self._attempt(warm))

    @asynccontextmanager
    async def _opened(self, *, relaying: bool) -> AsyncIterator[Any]:
        """The store, and what accepts jobs; `relaying`, a relay runs beside them, as in a web process."""
        from app.jobs.backend import open_backend  # type: ignore[import-not-found]
        from app.jobs.queue import JobQueue  # type: ignore[import-not-found]
        from app.jobs.relay import Relay  # type: ignore[import-not-found]
        from app.jobs.settings import JobSettings  # type: ignore[import-not-found]
        from app.jobs.store import Store  # type: ignore[import-not-found]
        from app.shutdown import Shutdown  # type: ignore[import-not-found]

        settings, wake = JobSettings.read(), asyncio.Event()
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(Store.open(settings))
            if relaying:
                self._backend = await stack.enter_async_context(open_backend(settings, store, Shutdown(0), wake))
                relay = Relay(store, self._backend, wake, settings.job_lease_seconds)
                await stack.enter_async_context(relay.running())
            yield store, JobQueue(store, wake)

    async def _accept(self, task: str, number: int, warm: int, *, relaying: bool) -> Times:
        from app.jobs import tasks  # type: ignore[import-not-found]  # with two of the benchmark

        async with self._opened(relaying=relaying) as (store, jobs):
            enqueue = partial(jobs.enqueue, getattr(tasks, task), caller="benchmark")
            for each in range(warm):
                await enqueue(tasks.Number(number=each))
            if relaying:
                await self._handed_over(store)
            with measured() as times:
                for each in range(number):
                    await enqueue(tasks.Number(number=each))
                seconds = time.perf_counter() - times["began"]
                if relaying:
                    await self._handed_over(store)
            return times | {"seconds": seconds, "jobs": number + warm}

    async def _relay(self) -> Times:
        async with self._opened(relaying=False) as (store, _):
            waiting = len(await store.due(time.time(), 1_000_000))
        with measured() as times:
            async with self._opened(relaying=True) as (store, _):
                await self._handed_over(store)
        return times | {"jobs": waiting}

    async def _attempt(self, warm: int) -> Times:
        from app.jobs.job import Job  # type: ignore[import-not-found]
        from app.jobs.runner import run  # type: ignore[import-not-found]

        async with self._opened(relaying=False) as (store, _):
            now = time.time()
            ids = await store.due(now, 1_000_000)
            for job_id in ids:
                await store.update(job_id, partial(Job.dispatched, now=now, pause=CLAIM_SECONDS))
            for job_id in ids[:warm]:
                await run(store, job_id, store.settings)
            reads = await self._reads(store)
            with measured() as times:
                for job_id in ids[warm:]:
                    await run(store, job_id, store.settings)
            reads = await self._reads(store) - reads - 1  # the second count is one itself
            return times | {"jobs": len(ids) - warm, "reads": reads}

    async def _reads(self, store: Any) -> int:
        return int((await store.client.info("stats"))["total_reads_processed"])

    async def _handed_over(self, store: Any) -> None:
        while await store.due(time.time(), 1):  # noqa: ASYNC110 - the relay tells nobody
            await asyncio.sleep(LOOK_SECONDS)
        # The last are claimed. The relay hands them over now, and no call of the backend is faster.
        await asyncio.sleep(CLAIMED_SECONDS)
        await self._backend.waiting()


class Bare(ABC):
    """A queue library, called as its own documentation shows it."""

    threads = False  # whether its endpoint is one that FastAPI runs in a thread

    @abstractmethod
    def send(self, job: str, argument: Any) -> str:
        """Have this function of `bare_jobs` called; give the id that the library has for that."""

    def application(self) -> "FastAPI":
        from fastapi import FastAPI

        app = FastAPI()

        def add(document: Document) -> dict[str, str]:
            return {"id": self.send("index_document", document.model_dump())}

        async def add_on_the_loop(document: Document) -> dict[str, str]:
            return add(document)

        app.post("/documents", status_code=202)(add if self.threads else add_on_the_loop)
        return app

    def accept(self, number: int, warm: int) -> Times:
        for each in range(warm):
            self.send("nothing", each)
        with measured() as times:
            for each in range(number):
                self.send("nothing", each)
        return times | {"jobs": number + warm}

    def hold(self, number: int) -> Times:
        with measured() as times:
            for each in range(number):
                self.send("hold", each)
        return times | {"jobs": number}


class RQ(Bare):
    def __init__(self, *, threads: bool = False) -> None:
        import bare_jobs
        from redis import Redis
        from rq import Queue
        from rq.serializers import JSONSerializer

        self.threads = threads
        self._jobs = bare_jobs
        self._connection = Redis.from_url(os.environ["REDIS_URL"])
        self._queue = Queue(os.environ["QUEUE_NAME"], connection=self._connection, serializer=JSONSerializer)

    def send(self, job: str, argument: Any) -> str:
        return self._queue.enqueue(getattr(self._jobs, job), argument).id

    def work(self) -> None:
        """A worker with the options of the project's own."""
        from rq import SpawnWorker, Worker
        from rq.serializers import JSONSerializer

        worker_class = SpawnWorker if sys.platform == "darwin" else Worker
        worker_class([self._queue], connection=self._connection, serializer=JSONSerializer, worker_ttl=30).work()


class Celery(Bare):
    def __init__(self) -> None:
        import bare_celery

        self._tasks: Any = bare_celery

    def send(self, job: str, argument: Any) -> str:
        return str(getattr(self._tasks, job).delay(argument).id)


class Dramatiq(Bare):
    def __init__(self) -> None:
        import bare_dramatiq

        self._actors: Any = bare_dramatiq

    def send(self, job: str, argument: Any) -> str:
        return str(getattr(self._actors, job).send(argument).message_id)


class Document(BaseModel):
    title: str
    text: str


@contextmanager
def measured() -> Iterator[Times]:
    """Gives, in the end, the wall-clock `seconds` that the block took and the `cpu` seconds of this process."""
    times = {"began": time.perf_counter()}
    cpu = time.process_time()
    yield times
    times |= {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - times["began"]}


def in_loop(work: Any) -> Times:
    """Runs it in the loop that uvicorn would use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        times: Times = runner.run(work)
        return times


class Probe:
    """How long the event loop has been away from a task that asks for it every millisecond."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._watch())

    async def end(self) -> dict[str, float]:
        assert self._task
        self._task.cancel()
        return {"longest": self.longest}

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(PROBE_SECONDS)
            self.longest = max(self.longest, time.perf_counter() - before - PROBE_SECONDS)


async def usage() -> dict[str, float]:
    return {"cpu": time.process_time()}


def serve(contestant: Contestant) -> None:
    import uvicorn

    app = contestant.application()
    probe = Probe()
    app.get("/usage")(usage)
    app.post("/probe")(probe.begin)
    app.get("/probe")(probe.end)
    config = uvicorn.Config(app, port=0, loop="uvloop", access_log=False, log_level="warning")
    listener = config.bind_socket()
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def end_with_standard_input() -> None:
    while os.read(0, 1024):  # not sys.stdin: an interpreter that ends would wait for its lock
        pass
    os._exit(0)


def obey(contestant: Contestant) -> None:
    for line in sys.stdin:
        command, *arguments = line.split()
        try:
            answer = getattr(contestant, command)(*map(int, arguments))
        except Exception as error:
            answer = {"error": f"{command}: {type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


CONTESTANTS: dict[str, Callable[[], Any]] = {
    "ours": Ours,
    "rq": RQ,
    "rq_threads": partial(RQ, threads=True),
    "celery": Celery,
    "dramatiq": Dramatiq,
}
ROLES: dict[str, Callable[[Any], None]] = {"web": serve, "accept": obey, "worker": lambda bare: bare.work()}


def main(contestant: str, role: str) -> None:
    with suppress(KeyboardInterrupt):
        ROLES[role](CONTESTANTS[contestant]())


if __name__ == "__main__":
    main(*sys.argv[1:])

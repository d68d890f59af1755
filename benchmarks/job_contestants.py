"""The processes that `jobs.py` measures: `python job_contestants.py CONTESTANT ROLE`, by the Python of a project.

    web       prints its port, and serves `POST /documents`, `/usage` and `/probe`
    accept    accepts jobs as it is told on standard input, a command a line, and prints what that took as JSON
    worker    runs jobs, where the project has no worker of its own to do so

`ours` is the project, whatever its queue. The others use a queue library as its own documentation shows it, with
JSON, and nothing of the project. All end with their standard input, but for the workers.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

WARM = 20  # jobs before those that count: connections, scripts and imports are there then
PROBE_SECONDS = 0.001
LOOK_SECONDS = 0.02
Times = dict[str, float]


class Contestant(Protocol):
    """A way to have jobs done."""

    def application(self) -> FastAPI:
        """With a route `POST /documents` that accepts a job."""

    def accept(self, number: int) -> Times:
        """Accept so many trivial jobs, one after the other; give what it took, as `measured`, and how many `jobs` there
        are then, with those that it began with to get warm."""

    def ended(self) -> Times:
        """`seconds` from the first start to the last end of those that were accepted last; empty before all ended.

        Raises RuntimeError when one has failed.
        """


class Ours:
    def __init__(self) -> None:
        sys.path.insert(0, os.getcwd())
        self._ids: list[str] = []

    def application(self) -> FastAPI:
        from app.main import create_app  # type: ignore[import-not-found]

        app: FastAPI = create_app()
        return app

    def accept(self, number: int) -> Times:
        return in_loop(self._accept(number, relaying=False))

    def accept_relaying(self, number: int) -> Times:
        """With the relay in the same process, as in a web process. The CPU time includes the relay's for these."""
        return in_loop(self._accept(number, relaying=True))

    def relay(self) -> Times:
        """Hands over what has been accepted."""
        return in_loop(self._relay())

    def ended(self) -> Times:
        return in_loop(self._ended())

    @asynccontextmanager
    async def _jobs(self, *, relaying: bool) -> AsyncIterator[Any]:
        from app.jobs import backend  # type: ignore[import-not-found]
        from app.jobs.queue import JobQueue  # type: ignore[import-not-found]
        from app.jobs.settings import JobSettings  # type: ignore[import-not-found]
        from app.jobs.store import Store  # type: ignore[import-not-found]
        from app.shutdown import Shutdown  # type: ignore[import-not-found]

        settings = JobSettings.read()
        async with AsyncExitStack() as stack:
            if relaying:
                yield await stack.enter_async_context(backend.open(settings, Shutdown(0)))
            else:
                yield JobQueue(await stack.enter_async_context(Store.open(settings)), None)

    async def _accept(self, number: int, *, relaying: bool) -> Times:
        from app.jobs.tasks import Number, nothing  # type: ignore[import-not-found] # which the benchmark has added

        async with self._jobs(relaying=relaying) as jobs:
            for each in range(WARM):
                await jobs.enqueue(nothing, Number(number=each), caller="benchmark")
            await self._handed_over(jobs, relaying)
            self._ids = []
            with measured() as times:
                for each in range(number):
                    job = await jobs.enqueue(nothing, Number(number=each), caller="benchmark")
                    self._ids.append(job.id)
                seconds = time.perf_counter() - times["began"]
                await self._handed_over(jobs, relaying)
            return times | {"seconds": seconds, "jobs": number + WARM}

    async def _relay(self) -> Times:
        async with self._jobs(relaying=False) as jobs:
            waiting = len(await jobs.store.due(time.time(), 1_000_000))
        with measured() as times:
            async with self._jobs(relaying=True) as jobs:
                await self._handed_over(jobs, True)
        return times | {"jobs": waiting}

    async def _handed_over(self, jobs: Any, relaying: bool) -> None:
        while relaying and await jobs.store.due(time.time(), 1):  # noqa: ASYNC110 - the relay tells nobody
            await asyncio.sleep(LOOK_SECONDS)

    async def _ended(self) -> Times:
        async with self._jobs(relaying=False) as jobs:
            if not (await jobs.get(self._ids[-1])).ended:
                return {}
            records = [await jobs.get(job_id) for job_id in self._ids]
        if failed := [record for record in records if record.ended and record.status != "succeeded"]:
            raise RuntimeError(f"{len(failed)} jobs have failed, the first with {failed[0].error}")
        if not all(record.ended for record in records):
            return {}
        return {"seconds": max(each.ended_at for each in records) - min(each.started_at for each in records)}


class RQ:
    def __init__(self, *, threads: bool = False) -> None:
        """With `threads`, its endpoint is one that FastAPI runs in a thread."""
        from redis import Redis
        from rq import Queue
        from rq.serializers import JSONSerializer

        self._threads = threads
        self._connection = Redis.from_url(os.environ["REDIS_URL"])
        self._queue = Queue(os.environ["QUEUE_NAME"], connection=self._connection, serializer=JSONSerializer)
        self._ids: list[str] = []

    def application(self) -> FastAPI:
        import bare_jobs

        app = FastAPI()

        def add(document: Document) -> dict[str, str]:
            return {"id": self._queue.enqueue(bare_jobs.index_document, document.model_dump()).id}

        async def add_on_the_loop(document: Document) -> dict[str, str]:
            return add(document)

        app.post("/documents", status_code=202)(add if self._threads else add_on_the_loop)
        return app

    def accept(self, number: int) -> Times:
        import bare_jobs

        for each in range(WARM):
            self._queue.enqueue(bare_jobs.nothing, each)
        self._ids = []
        with measured() as times:
            for each in range(number):
                self._ids.append(self._queue.enqueue(bare_jobs.nothing, each).id)
        return times | {"jobs": number + WARM}

    def ended(self) -> Times:
        from rq.job import Job
        from rq.serializers import JSONSerializer

        def read(ids: list[str]) -> list[Job]:
            return [job for job in Job.fetch_many(ids, self._connection, JSONSerializer) if job]

        if any(job.ended_at is None for job in read(self._ids[-1:])):
            return {}
        jobs = read(self._ids)
        ends = [job.ended_at.timestamp() for job in jobs if job.ended_at and job.is_finished]
        if len(ends) < len(self._ids):
            raise RuntimeError(f"{len(self._ids) - len(ends)} jobs have failed")
        return {"seconds": max(ends) - min(job.started_at.timestamp() for job in jobs if job.started_at)}

    def work(self) -> None:
        """A worker with the options of the project's own."""
        from rq import SpawnWorker, Worker
        from rq.serializers import JSONSerializer

        worker_class = SpawnWorker if sys.platform == "darwin" else Worker
        worker_class([self._queue], connection=self._connection, serializer=JSONSerializer, worker_ttl=30).work()


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
    app = contestant.application()
    probe = Probe()
    app.get("/usage")(usage)
    app.post("/probe")(probe.begin)
    app.get("/probe")(probe.end)
    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", access_log=False, log_level="warning")
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


CONTESTANTS: dict[str, Callable[[], Any]] = {"ours": Ours, "rq": RQ, "rq_threads": partial(RQ, threads=True)}
ROLES: dict[str, Callable[[Any], None]] = {"web": serve, "accept": obey, "worker": lambda bare: bare.work()}


def main(contestant: str, role: str) -> None:
    with suppress(KeyboardInterrupt):
        ROLES[role](CONTESTANTS[contestant]())


if __name__ == "__main__":
    main(*sys.argv[1:])

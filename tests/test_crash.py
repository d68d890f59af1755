"""Processes die at the worst moments, and brokers with them: what was accepted is done, and done once."""

import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import chain, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import pytest
from crashing import (
    BROKERS,
    LEASE_SECONDS,
    Broker,
    Chat,
    Health,
    Provider,
    Service,
    Web,
    addresses,
    at_once,
    cpu_seconds,
    members,
    pause,
    read_until,
    redis_server,
    until,
)
from rabbitmq import RabbitMQ, rabbitmq_server
from redis import Redis
from rendering import Project, choices, run
from running import free_port, services

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]
DEFAULT_LEASE_SECONDS = 15.0
LONG_LEASE_SECONDS = 600.0  # no message is repeated while a test looks
ORPHAN_SECONDS = 5.0  # from the end of its lease: the relay looks once a second, and a worker must be free
VISIBILITY_SECONDS = 30.0  # of Celery on Redis: a job that takes longer is delivered to another worker too
BROKER_AWAY_SECONDS = 15.0
ANSWER_SECONDS = 3.0  # the two that a request waits for Redis, and some; and a multiple of what it takes else
HEALTH_SECONDS = 0.1
TRIES = 3
FOLLOWERS = 500
DOCUMENT = {"title": "A tale", "text": "to be or not to be"}


# What is about the web server, the store or the relay, and not about a library or its worker: on each broker, and
# with each of the two backends (RQ's, and the one that Celery and Dramatiq share).
of_each_broker = pytest.mark.parametrize("variant", ["rq", "dramatiq-rabbitmq"], indirect=True)
# What takes most of a minute of CPU: each library and each broker. What a worker's death does to some hundred jobs is
# shown with every queue.
of_each_library = pytest.mark.parametrize("variant", ["rq", "celery-redis", "dramatiq-rabbitmq"], indirect=True)


DURABLE = [queue for queue in choices("queue_backend") if queue != "none"]


def together(*queues: str, group: str = "crash-{}") -> pytest.MarkDecorator:
    """With these queues, in the process that runs the others of this kind: what they share is there once, be it a
    queue's `pair` or one RabbitMQ for all."""
    params = [pytest.param(queue, marks=pytest.mark.xdist_group(group.format(queue))) for queue in queues]
    return pytest.mark.parametrize("variant", params, indirect=True)


@pytest.fixture(scope="module", params=DURABLE)
def variant(request: pytest.FixtureRequest) -> str:
    """Each queue whose jobs are durable."""
    return str(request.param)


@pytest.fixture(scope="module")
def project(variant: str, render: Callable[..., Project]) -> Project:
    project = render(queue_backend=variant)
    project.sync()
    return project


@pytest.fixture(scope="session")
def services_for() -> Iterator[Callable[[Project], dict[str, str]]]:
    """`services_for(project)`: what it needs, started when it is first asked for. They stay while tests of other queues
    come in between; each test has a queue of its own."""
    started: dict[Path, dict[str, str]] = {}
    with ExitStack() as stack:

        def services_for(project: Project) -> dict[str, str]:
            if project.path not in started:
                started[project.path] = stack.enter_context(services(project))
            return started[project.path]

        yield services_for


@pytest.fixture(scope="module")
def env(project: Project, services_for: Callable[[Project], dict[str, str]]) -> dict[str, str]:
    """The environment of all processes here, with the services that the queue needs."""
    return services_for(project)


@pytest.fixture(scope="module")
def redis(env: dict[str, str]) -> Iterator[Redis]:
    with Redis.from_url(env["REDIS_URL"], decode_responses=True) as client:
        yield client


@pytest.fixture
def service(project: Project, env: dict[str, str], tmp_path: Path) -> Service:
    return Service(project, tmp_path, env)


class Pair(NamedTuple):
    service: Service
    web: Web


@pytest.fixture(scope="module")
def pair(project: Project, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A web server and two workers, for the tests that leave them as they found them."""
    service = Service(project, tmp_path_factory.mktemp("pair"), env)
    with service.web() as web, service.workers(2):  # whose command is the Procfile's
        yield Pair(service, web)


@pytest.fixture(scope="module")
def shared_web(project: Project, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A web server for the tests that are about workers, and leave no job that has not ended."""
    service = Service(project, tmp_path_factory.mktemp("web"), env)
    with service.web() as web:
        yield Pair(service, web)


@pytest.fixture
def served(project: Project, env: dict[str, str], tmp_path: Path, shared_web: Pair) -> Pair:
    """That web server, with a journal of the test's own."""
    return Pair(Service(project, tmp_path, env, shared_web.service.queue), shared_web.web)


@pytest.fixture
def broker(service: Service, redis: Redis) -> Broker:
    return broker_of(service, redis)


def broker_of(service: Service, redis: Redis) -> Broker:
    return BROKERS[service.variant](redis, service.queue, service.env.get("BROKER_URL", ""))


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder in memory, which a killed process does not take along. While a real disk is slow to sync, Redis answers
    and keeps up to two seconds of its log to itself: those it may lose."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def own_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """For the tests that stop or kill it, and leave it as they found it: with each queue, one after the other."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as rabbitmq:
        yield rabbitmq


@pytest.fixture
def seed() -> int:
    """Of what a test does by chance. It is shown where a test fails."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    return seed


def took(web: Web, path: str) -> float:
    """How long an answer takes."""
    began = time.monotonic()
    web.client.get(path)
    return time.monotonic() - began


@of_each_library
def test_of_thousands_of_jobs_none_is_lost(service: Service, seed: int) -> None:
    """Forty of the workers die meanwhile. RQ has a process for each job, and so fewer jobs: 1,000."""
    count = 1_000 if service.variant == "rq" else 2_500
    with ExitStack() as stack:
        web = stack.enter_context(service.web())
        workers = stack.enter_context(service.workers(4, supervised=True, LOG_LEVEL="WARNING"))
        posting = stack.enter_context(ThreadPoolExecutor(1))
        posted = posting.submit(web.add_as_they_begin, "last", count, service.journal)
        workers.kill_some(service.journal, kills=40, jobs=count, seed=seed, posted=posted)
        ids = posted.result()
        web.all_succeed(ids)
        assert len(set(ids)) == count
        assert set(ids) == service.journal.jobs("end")


def test_jobs_outlive_their_workers_with_one_effect(service: Service, seed: int, redis: Redis) -> None:
    """Each is delivered twice, and ten of the workers die in the middle of one, with all their processes: every job
    succeeds, the orphans soon, by the default lease. Each has one effect in Redis, one at a provider that is given the
    job's key, and one success.

    A worker that dies later may take along the message that repeats an orphan, and the pause before the next doubles.
    The lease was renewed up to a fifth of it before the kill. Where the first job waits for long until all is started,
    the machine is busy with something else: an orphan may wait for some times as long.
    """
    service.lease(DEFAULT_LEASE_SECONDS)
    numbers, kills, began = list(range(200)), 10, time.monotonic()
    with ExitStack() as stack:
        provider, web = stack.enter_context(Provider()), stack.enter_context(service.web())
        workers = stack.enter_context(service.workers(2, supervised=True))
        posting = stack.enter_context(ThreadPoolExecutor(1))
        probe = {"seconds": 0.02, "url": provider.url}
        posted = posting.submit(web.add_as_they_begin, "affect", len(numbers), service.journal, twice=True, **probe)
        service.journal.wait("begin")
        orphan_seconds = max(ORPHAN_SECONDS, 3 * (time.monotonic() - began))
        workers.kill_some(service.journal, kills, jobs=len(numbers), seed=seed, in_a_job=True, posted=posted)
        ids = posted.result()
        web.all_succeed(ids)
        assert sorted(map(int, redis.lrange(f"{service.queue}:effects", 0, -1))) == numbers
        assert sorted(provider.effects.values()) == numbers
        assert set(provider.effects) == set(ids)
        assert [web.states(job_id).count("succeeded") for job_id in ids] == [1] * len(ids)
        attempts = len(service.journal.all("begin"))
        # What is delivered again runs again only when its worker has died.
        recoveries = workers.recoveries(service.journal)
        print(provider.calls, "calls of the provider,", attempts, "attempts")
        print("again after", [f"{recovery.seconds:.1f} s" for recovery in recoveries])
        assert recoveries
        assert len(recoveries) == attempts - len(numbers)
        for seconds, killed in recoveries:
            repeats_lost = workers.kills_between(killed + 0.8 * DEFAULT_LEASE_SECONDS, killed + seconds)
            assert 0 < seconds < DEFAULT_LEASE_SECONDS * 2**repeats_lost + orphan_seconds


@together(*DURABLE)
def test_a_job_that_kills_its_worker_has_failed_after_its_attempts(served: Pair) -> None:
    """Where a worker does one job at a time, it takes nobody along: 20 others are done before it has killed its last
    one, each once."""
    service, web = served
    held = service.folder / "held"
    held.touch()
    with service.workers(2, supervised=True, alone=True):
        poison = web.add("kill_the_worker", file=str(held))
        others = web.add_many("last", 20)
        web.all_succeed(others)
        assert web.job(poison)["status"] != "failed"
        held.unlink()
        record = web.wait(poison, "failed")
        assert [len(service.journal.of(job_id)) for job_id in others] == [1] * 20
        assert (record["attempts"], record["error"]["code"]) == (3, "attempts_lost")
        assert [entry.attempt for entry in service.journal.of(poison)] == [1, 2, 3]


@together(*DURABLE)
def test_the_procfiles_worker_keeps_the_backoff(pair: Pair) -> None:
    """A job that fails twice succeeds the third time, after pauses of at least one and five seconds."""
    record = pair.web.wait(job_id := pair.web.add("fail_twice"), "succeeded")
    first, second, third = pair.service.journal.of(job_id)
    assert second.at - first.at >= 1
    assert third.at - second.at >= 5
    assert (record["attempts"], record["error"]) == (3, None)


@together(*DURABLE)
def test_a_broker_that_forgets_everything_loses_nothing(served: Pair, redis: Redis) -> None:
    """Its queues are emptied while the workers are busy: every job takes effect once."""
    service, web = served
    broker = broker_of(service, redis)
    with service.workers(2, supervised=True):
        # Dramatiq does many at once, and would be done with all before a busy machine has looked.
        ids = web.add_many("last", 100, seconds=0.5 if "dramatiq" in service.variant else 0.05)
        service.journal.wait("end", 20)
        assert broker.messages()
        broker.empty()
        web.all_succeed(ids)
        assert sorted(entry.job for entry in service.journal.all("end")) == sorted(ids)


@of_each_broker
def test_a_web_process_that_dies_between_record_and_dispatch_loses_nothing(service: Service) -> None:
    """It has claimed the job and not handed it over. Another web process does, when the claim has run out."""
    with service.workers():
        with service.web("stuck:app") as web:
            job_id = web.add("last")
            web.process.printed("claimed and not handed over")
            web.process.stop(signal.SIGKILL)
        with service.web() as web:
            assert web.wait(job_id, "succeeded")["attempts"] == 1
            assert len(service.journal.of(job_id)) == 1


@pytest.mark.needs("redis")
def test_workers_outlive_a_redis_that_dies(project: Project, env: dict[str, str], tmp_path: Path, disk: Path) -> None:
    """Away for 15 s, and back with what it has written to disk: the same workers go on, and nothing that was accepted
    is lost. What is not accepted is refused."""
    port = free_port()
    service = Service(project, tmp_path, env | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"})
    accepted: list[httpx.Response] = []
    refused: list[httpx.Response] = []
    enough = threading.Event()

    def post(web: Web) -> None:
        while not enough.is_set():
            response = web.client.post("/tasks/last", json={"seconds": 0.05})
            (accepted if response.status_code == 202 else refused).append(response)
            enough.wait(0.05)

    with ExitStack() as stack:
        first = stack.enter_context(redis_server(port, disk))
        web = stack.enter_context(service.web())
        workers = stack.enter_context(service.workers(2))
        posted = stack.enter_context(ThreadPoolExecutor(1)).submit(post, web)
        stack.callback(enough.set)
        service.journal.wait("end", 50)
        before = len(accepted)
        first.stop(signal.SIGKILL)
        pause(BROKER_AWAY_SECONDS)
        assert {response.status_code for response in refused} == {503}
        stack.enter_context(redis_server(port, disk))
        until(lambda: len(accepted) > before + 50, "jobs are accepted again")
        enough.set()
        posted.result()
        web.all_succeed([response.json()["id"] for response in accepted])
        assert [process.alive for process in workers.processes] == [True, True]
        print(f"{before} of {len(accepted)} accepted before, {len(refused)} refused")


@pytest.mark.needs("rabbitmq")
@together(*[queue for queue in DURABLE if "rabbitmq" in queue], group="crash-rabbitmq")
def test_workers_outlive_a_rabbitmq_that_dies(
    project: Project, env: dict[str, str], tmp_path: Path, own_rabbitmq: RabbitMQ
) -> None:
    """Away for 15 s, and back with what it has kept: every job is accepted meanwhile, the same workers go on, and
    nothing is lost."""
    ids: list[str] = []
    enough = threading.Event()

    def post(web: Web) -> None:
        while not enough.is_set():
            ids.append(web.add("last", seconds=0.05))
            enough.wait(0.05)

    with ExitStack() as stack:
        service = Service(project, tmp_path, env | {"BROKER_URL": own_rabbitmq.url})
        web = stack.enter_context(service.web())
        workers = stack.enter_context(service.workers(2))
        posted = stack.enter_context(ThreadPoolExecutor(1)).submit(post, web)
        stack.callback(enough.set)
        service.journal.wait("end", 50)
        own_rabbitmq.kill()
        before = len(ids)
        pause(BROKER_AWAY_SECONDS)
        assert len(ids) > before
        assert web.client.get("/ready").json()["checks"]["broker"].startswith("degraded: ")
        own_rabbitmq.start()
        enough.set()
        posted.result()
        web.all_succeed(ids)
        assert [process.alive for process in workers.processes] == [True, True]
        print(f"{before} of {len(ids)} accepted before")


@pytest.mark.needs("rabbitmq")
@together(*[queue for queue in DURABLE if "rabbitmq" in queue], group="crash-rabbitmq")
def test_a_silent_rabbitmq_holds_up_nothing(
    project: Project, env: dict[str, str], tmp_path: Path, own_rabbitmq: RabbitMQ
) -> None:
    """It takes connections and answers nothing: jobs are accepted and wait, readiness says so within a second however
    often it is asked, and a web server that is told to stop does."""
    service = Service(project, tmp_path, env | {"BROKER_URL": own_rabbitmq.url})
    with service.web(DRAIN_SECONDS="0.5") as web, service.workers():
        web.all_succeed([web.add("last")])
        usual = max(took(web, "/ready") for _ in range(3))
        with own_rabbitmq.stopped():
            waits = [web.add("last") for _ in range(3)]
            for _ in range(3):
                assert took(web, "/ready") < 1 + 20 * usual
                checks = web.client.get("/ready").json()["checks"]
                assert (checks["broker"].partition(":")[0], checks["redis"]) == ("degraded", "ok")
            web.process.stop()
    with service.web() as web, service.workers():
        web.all_succeed(waits)


@together(*DURABLE)
def test_sigterm_lets_the_job_end(served: Pair) -> None:
    """The worker takes no other, and leaves with status 0. Nothing runs again."""
    service, web = served
    held = service.folder / "held"
    held.touch()
    with service.workers(alone=True) as workers:
        first = web.add("hold", file=str(held))
        service.journal.wait("begin")
        second = web.add("last")
        workers.processes[0].send(signal.SIGTERM)
        pause(1)  # and it is still at the job
        assert workers.processes[0].alive
        held.unlink()
        assert workers.processes[0].wait() == 0
    assert web.wait(first, "succeeded")["attempts"] == 1
    assert service.journal.jobs("begin") == {first}
    with service.workers():
        web.all_succeed([second, web.add("last")])
    assert [len(service.journal.of(job_id)) for job_id in (first, second)] == [1, 1]


@together(*DURABLE)
def test_a_job_whose_workers_parent_dies_has_one_effect(served: Pair) -> None:
    """Only the parent is killed. Nothing of that worker stays behind."""
    service, web = served
    held = service.folder / "held"
    held.touch()
    with service.workers(supervised=True) as workers:
        job_id = web.add("hold", file=str(held))
        (begun,) = service.journal.wait("begin")
        assert len(members(begun.session)) > 1
        os.kill(begun.session, signal.SIGKILL)
        until(lambda: len(workers.started) == 2, "the worker has a successor")
        web.all_succeed([web.add("last")])
        held.unlink()
        web.wait(job_id, "succeeded")
        until(lambda: not members(begun.session), "nothing of the killed worker is left")
        assert len(service.journal.of(job_id, "end")) == 1


@together(*DURABLE)
def test_a_long_job_runs_once(pair: Pair) -> None:
    """It is healthy, and takes three times as long as an orphan is left alone. Somebody else would have time for it."""
    seconds = 3 * LEASE_SECONDS if pair.service.variant != "celery-redis" else 1.5 * VISIBILITY_SECONDS
    job_id = pair.web.add("last", seconds=seconds)
    assert pair.web.wait(job_id, "succeeded")["attempts"] == 1
    assert len(pair.service.journal.of(job_id)) == 1


@of_each_broker
@pytest.mark.needs("redis")  # whoever starts the embedded one ends it when it is silent for a second
def test_a_stalled_redis_holds_up_nothing_but_jobs(project: Project, env: dict[str, str], tmp_path: Path) -> None:
    """For a second, under 50 posts at once: /health answers at once, a chat goes on, and each post is accepted or
    refused in time; what was accepted is done.

    Where /health takes long without the stall too, the machine is busy with something else: a multiple is allowed.
    """
    port = free_port()
    service = Service(project, tmp_path, env | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"})
    client = Redis(port=port)
    accepted: list[str] = []
    slowest_posts: list[float] = []

    def slowest_health(web: Web, stalled: bool) -> float:
        with Chat(web.port) as chat, Health(web.port) as health:
            until(lambda: chat.words > 2 and len(health.seconds) > 2, "both go on")
            if stalled:
                client.client_pause(1000, all=True)
            words, began = chat.words, time.monotonic()
            answers = at_once(web.port, "/documents", [DOCUMENT] * 50)
            if stalled:
                client.ping()  # is answered when the stall is over
                assert time.monotonic() - began > 0.9
                assert chat.words - words >= 5
        assert {answer.status for answer in answers} <= {202, 503}
        slowest_posts.append(max(answer.seconds for answer in answers))
        accepted.extend(answer.json["id"] for answer in answers if answer.status == 202)
        return max(health.seconds)

    def stays_under(seconds: float, web: Web) -> bool:
        usual, stalled = slowest_health(web, stalled=False), slowest_health(web, stalled=True)
        print(f"/health took up to {usual * 1000:.0f} ms, and {stalled * 1000:.0f} ms in the stall")
        *_, usual_posts, stalled_posts = slowest_posts
        assert stalled_posts < ANSWER_SECONDS + 10 * usual_posts
        return stalled < max(seconds, 3 * usual)

    with ExitStack() as stack:
        stack.enter_context(redis_server(port, tmp_path))
        stack.enter_context(client)
        web = stack.enter_context(service.web(ECHO_TOKEN_SECONDS="0.05"))
        stack.enter_context(service.workers(2))
        web.all_succeed([web.add("last")])  # nothing is being started any more
        assert any(stays_under(HEALTH_SECONDS, web) for _ in range(TRIES))
        print(len(accepted), "accepted")
        web.all_succeed(accepted)


@of_each_broker
@pytest.mark.needs("redis")
def test_without_redis_a_job_is_refused_in_time(project: Project, env: dict[str, str], tmp_path: Path) -> None:
    """With 503 and a word when to try again, whether Redis is silent or gone. When it is back, jobs are accepted."""
    port = free_port()
    service = Service(project, tmp_path, env | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"})

    def refused(web: Web) -> None:
        (answer,) = at_once(web.port, "/documents", [DOCUMENT])
        assert (answer.status, answer.retry_after) == (503, "2")
        assert answer.seconds < ANSWER_SECONDS + 20 * took(web, "/health")
        assert web.client.get("/health").status_code == 200

    def accepted(web: Web) -> None:
        until(lambda: at_once(web.port, "/documents", [DOCUMENT])[0].status == 202, "one is accepted")

    with service.web() as web:
        with redis_server(port, tmp_path) as server:
            accepted(web)
            os.kill(server.pid, signal.SIGSTOP)
            refused(web)
            os.kill(server.pid, signal.SIGCONT)
            accepted(web)
            server.stop(signal.SIGKILL)
            refused(web)
        with redis_server(port, tmp_path):
            accepted(web)


@together("rq", "dramatiq-rabbitmq")
def test_one_key_is_one_job(pair: Pair) -> None:
    """Posted 50 times at once: one job, one effect."""
    answers = at_once(pair.web.port, "/tasks/last", [{"number": 1}] * 50, {"Idempotency-Key": "one"})
    assert {answer.status for answer in answers} == {202}
    (job_id,) = {answer.json["id"] for answer in answers}
    pair.web.all_succeed([job_id, pair.web.add("last")])
    assert len(pair.service.journal.of(job_id)) == len(pair.service.journal.of(job_id, "end")) == 1


@together("rq", "dramatiq-rabbitmq")
def test_the_key_of_a_failed_job_can_be_tried_again(pair: Pair) -> None:
    """It is the same job, and it runs again."""
    web, journal = pair.web, pair.service.journal
    broken = pair.service.folder / "broken"
    broken.touch()
    job_id = web.add("fail_while_there", key="again", file=str(broken))
    assert web.wait(job_id, "failed")["error"]["code"] == "job_failed"
    broken.unlink()
    assert web.add("fail_while_there", key="again", file=str(broken)) == job_id
    record = web.wait(job_id, "succeeded")
    assert (record["attempts"], record["error"]) == (1, None)
    assert [entry.what for what in ("begin", "end") for entry in journal.of(job_id, what)] == ["begin", "begin", "end"]


@pytest.mark.parametrize("variant", ["rq"], indirect=True)  # each other's own tests/test_worker.py starts it, too
@pytest.mark.parametrize(("arguments", "queue"), [(("high", "low"), "high"), ((), "high,low")])
def test_a_worker_of_two_queues_does_not_start(service: Service, arguments: tuple[str, ...], queue: str) -> None:
    """It says why, and ends with a status that a supervisor notices."""
    done = run(*service.procfile("worker"), *arguments, cwd=service.path, env=service.env | {"QUEUE_NAME": queue})
    assert done.returncode != 0
    assert "exactly one queue" in done.stderr
    assert "Traceback" not in done.stderr


@of_each_broker
def test_a_follower_who_is_cut_off_misses_nothing(service: Service) -> None:
    """Nor by the death of the worker in between: all events in their order, one `done`, and nothing behind it."""
    held = service.folder / "held"
    held.touch()
    with service.web() as web, service.workers(supervised=True) as workers:
        job_id = web.add("hold", file=str(held))
        received = []
        with closing(web.events(job_id)) as events:
            for event in events:
                received.append(event)
                if event.data["progress"]["message"] == "attempt 1":
                    break
        workers.kill(workers.processes[0])
        held.unlink()
        pause(1)
        received += web.events(job_id, received[-1].id)
        assert [event.id for event in received] == list(range(1, len(received) + 1))
        *states, done = received
        assert (done.name, done.data) == ("done", {"reason": "end"})
        assert {event.name for event in states} == {"status"}
        names = [event.data["state"] for event in states]
        assert [name for name, _ in groupby(names)] == ["queued", "running", "retrying", "running", "succeeded"]
        assert received == list(web.events(job_id))
        again = web.client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": str(done.id)})
        assert again.status_code == 204


@together(*DURABLE)
def test_a_cancelled_job_stops(served: Pair) -> None:
    """A running one within five seconds, its cleanup included; one that waits behind it never starts. By the default
    lease, as a worker looks whether its job was cancelled when it renews that."""
    service, web = served
    service.lease(DEFAULT_LEASE_SECONDS)
    held = service.folder / "held"
    held.touch()
    with service.workers(alone=True):
        running = web.add("hold", file=str(held))
        # With its progress written, it looks at its record again only when it renews its lease.
        until(lambda: web.job(running)["progress"]["fraction"] == 0.5, "its progress is written")
        queued = web.add("last")
        for job_id in (queued, running):
            assert web.client.delete(f"/jobs/{job_id}").status_code == 202
        asked = time.time()
        (cleaned,) = service.journal.wait("cleaned")
        usual = took(web, f"/jobs/{running}")
        print(f"stopped after {cleaned.at - asked:.1f} s")
        assert cleaned.at - asked < 5 + 100 * usual
        web.all_succeed([web.add("last")])
        assert not service.journal.of(running, "end")
        assert not service.journal.of(queued)
        assert [web.job(job_id)["status"] for job_id in (running, queued)] == ["cancelled", "cancelled"]
        assert web.states(running) == ["queued", "running", "running", "cancelled"]


@together(*DURABLE)
def test_a_thread_of_a_cancelled_job_does_not_hold_the_worker(served: Pair) -> None:
    """It can't be stopped, and the next job does not wait for it."""
    service, web = served
    with service.workers():
        held = web.add("sleep_in_a_thread", seconds=120)
        service.journal.wait("begin")
        assert web.client.delete(f"/jobs/{held}").status_code == 202
        web.all_succeed([web.add("last")])
        assert web.job(held)["status"] == "cancelled"


@of_each_broker
def test_hundreds_of_followers_cost_little(service: Service, redis: Redis) -> None:
    """Of one live job, in one web process: ten connections to Redis at most, and hardly any work while nothing
    happens, by the default lease. Then all of them get the end."""
    service.lease(DEFAULT_LEASE_SECONDS)
    held = service.folder / "held"
    held.touch()
    with service.web() as web, service.workers(), ExitStack() as stack:
        job_id = web.add("hold", file=str(held))
        request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        followers: list[socket.socket] = []
        received: list[bytes] = []
        while len(followers) < FOLLOWERS:  # some at a time: of all at once a busy machine refuses the last with a 503
            some = [socket.create_connection(("127.0.0.1", web.port), timeout=60) for _ in range(50)]
            for follower in some:
                followers.append(stack.enter_context(follower))
                follower.sendall(request)
            received += [read_until(follower, b"attempt 1") for follower in some]
        clients = {client["addr"] for client in redis.client_list()} & addresses(web.process.pid)
        used = cpu_seconds(web.process.pid)
        pause(10)
        used = cpu_seconds(web.process.pid) - used
        print(f"{len(clients)} connections, {used / 10:.3f} of a core")
        assert 0 < len(clients) <= 10
        assert used / 10 < 0.05
        held.unlink()
        for before, follower in zip(received, followers, strict=True):
            body = before + read_until(follower, b"0\r\n\r\n")
            assert (body.count(b'"succeeded"'), body.count(b"event: done")) == (1, 1)


@of_each_broker
def test_two_web_processes_make_no_more_messages_than_one(service: Service, broker: Broker) -> None:
    """While there is no worker, one for each of 200 jobs. Then a worker does all of them, each once."""
    service.lease(LONG_LEASE_SECONDS)
    with service.web() as one, service.web() as other:
        with ThreadPoolExecutor(2) as posting:
            ids = [*chain(*posting.map(lambda web: web.add_many("last", 100), (one, other)))]
        until(lambda: broker.messages() >= 200, "all are handed over")
        pause(3)  # each relay looks once a second
        assert broker.messages() == 200
        with service.workers():
            one.all_succeed(ids)
        assert sorted(entry.job for entry in service.journal.all("begin")) == sorted(ids)


@of_each_broker
def test_an_hour_without_a_worker_makes_a_bounded_number_of_messages(service: Service, broker: Broker) -> None:
    """Of 10,000 queued jobs and two web processes, by a clock that is not the machine's: as many as the broker is given
    to hold, and once the batch of the process that looked at the same moment."""
    done = run(service.python, "hour.py", cwd=service.path, env=service.env)
    assert done.returncode == 0, done.stderr
    messages, looks = map(int, done.stdout.split())
    print(messages, "messages,", looks, "looks")
    assert looks >= 2 * 3600
    assert 1000 <= messages <= 1100
    assert broker.messages() == messages


def test_jobs_in_the_web_process_are_lost_with_it_and_named(render: Callable[..., Project], tmp_path: Path) -> None:
    """Without a queue, SIGTERM lets end what fits into the drain time, and the log names the rest. What a SIGKILL
    takes stands in the README."""
    project = render(queue_backend="none")
    project.sync()
    with services(project) as env:
        service = Service(project, tmp_path, env)
        with service.web(DRAIN_SECONDS="4") as web:
            short = web.add("last", seconds=2)
            long = [web.add("last", seconds=600) for _ in range(4)]  # the last of them waits for space
            service.journal.wait("begin", 4)
            assert not service.journal.all("end")
            web.process.stop()
            assert service.journal.jobs("end") == {short}
            for job_id in long:
                web.process.printed(f"job {job_id} is lost")
            with pytest.raises(AssertionError):
                web.process.printed(f"job {short} is lost")
    readme = " ".join(project.read("README.md").split())
    assert "A SIGKILL or a crash loses all of them" in readme

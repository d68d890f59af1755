import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from app.jobs.broker import RUN_JOB, celery_app
from app.jobs.settings import JobSettings
from tests.server import ROOT

ID = "0" * 32


class Message:
    """As kombu gives it, with what became of it."""

    def __init__(self, body: bytes, headers: Any) -> None:
        self._body = body
        self.headers = headers
        self.rejected = False

    def decode(self) -> Any:
        return json.loads(self._body)

    @property
    def payload(self) -> Any:
        return self.decode()

    def ack_log_error(self, *_: Any) -> None: ...

    def reject_log_error(self, *_: Any) -> None:
        self.rejected = True


def test_a_worker_outlives_a_lost_connection_that_can_not_be_closed(job_settings: JobSettings) -> None:
    """The loop in which it reads is replaced by one that loses its first connection."""
    connections: list[Any] = []

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    def loop(consumer: Any, connection: Any, *_: Any) -> None:
        connections.append(connection)
        if len(connections) == 1:
            connection.close = fail
            raise ConnectionResetError
        consumer.stop()

    worker: Any = celery_app(job_settings).WorkController(without_gossip=True, without_mingle=True)
    worker.consumer.loop = loop
    worker.consumer.start()
    worker.consumer.shutdown()
    lost, current = connections
    assert not lost.connected
    assert current is not lost


def test_only_a_worker_tells_of_its_work() -> None:
    """Not `celery -A app.worker inspect ping`, say, which imports its module too, and runs beside it."""
    code = """
from celery import signals
from app import telemetry
told = []
telemetry.set_up_worker = lambda *_: told.append("a worker")
from app import worker
assert not told
signals.worker_init.send(None)
assert told
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_worker_does_not_start_without_the_heartbeat_that_shows_it(jobs_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "app.worker", "--without-heartbeat"]
    env = {**os.environ, **jobs_env}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("app.worker: ")


@pytest.fixture
def received(job_settings: JobSettings) -> Callable[[Message], list[Any]]:
    """What a worker runs of a message: the headers that are left."""
    ran: list[Any] = []
    worker: Any = celery_app(job_settings).WorkController(without_gossip=True, without_mingle=True)
    consumer: Any = worker.consumer
    consumer.strategies[RUN_JOB] = lambda message, *_: ran.append(message.headers)
    handle = consumer.create_task_handler()

    def receive(message: Message) -> list[Any]:
        handle(message)
        return ran

    return receive


def body(*arguments: Any, keywords: Any = None, **embedded: Any) -> bytes:
    return json.dumps([arguments, keywords or {}, {"callbacks": None, "chain": None, **embedded}]).encode()


def headers(**changes: Any) -> dict[str, Any]:
    return {"lang": "py", "task": RUN_JOB, "id": "m", "timelimit": [330, None], "eta": None, **changes}


@pytest.mark.parametrize(
    ("sent", "with_headers"),
    [
        (b"\xff", headers()),
        (b"no JSON", headers()),
        (b"{}", headers()),
        (body(), headers()),
        (body({"no": "text"}), headers()),
        (body(ID, keywords={"more": 1}), headers()),
        (body(ID, callbacks=[{"task": "os.system"}]), headers()),
        (body(ID, chain=[{"task": "celery.backend_cleanup"}]), headers()),
        (body(ID), headers(task="celery.backend_cleanup")),
        (body(ID), headers(task=["no", "text"])),
        (body(ID), headers(timelimit="soon")),
        (body(ID), headers(timelimit=[330, 1])),
        (body(ID), headers(id=None)),
        (body(ID), None),
        (body(ID), "text"),
    ],
)
def test_what_does_not_just_say_which_job_is_rejected(
    received: Callable[[Message], list[Any]], sent: bytes, with_headers: Any
) -> None:
    message = Message(sent, with_headers)
    assert received(message) == []
    assert message.rejected


def test_of_a_message_nothing_is_kept_that_says_when_or_what_else(received: Callable[[Message], list[Any]]) -> None:
    extra = {"eta": "2099-01-01", "expires": "bogus", "group": "g", "stamps": {}, "retries": "many"}
    (kept,) = received(Message(body(ID), headers(**extra)))
    assert kept == {"lang": "py", "task": RUN_JOB, "id": "m", "timelimit": [330, None]}


def test_a_worker_outlives_whatever_its_broker_says(job_settings: JobSettings) -> None:
    """The loop in which it reads is replaced by one that fails, as when kombu finds what is no JSON."""
    failures: list[Exception] = [ValueError("no JSON"), TypeError("a list"), KeyError("properties")]

    def loop(consumer: Any, *_: Any) -> None:
        if failures:
            raise failures.pop()
        consumer.stop()

    worker: Any = celery_app(job_settings).WorkController(without_gossip=True, without_mingle=True)
    worker.consumer.loop = loop
    worker.consumer.start()
    worker.consumer.shutdown()
    assert failures == []


def test_a_broker_that_refuses_each_time_is_asked_once_a_second(
    job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    worker: Any = celery_app(job_settings).WorkController(without_gossip=True, without_mingle=True)
    for seconds in (0, 1, 2):
        worker.consumer.on_connection_error_after_connected(OSError("another queue has the name"))
        assert len(waits) == seconds
    worker.consumer.create_task_handler()  # before it asks for messages, which a broker may refuse too
    worker.consumer.on_connection_error_after_connected(OSError("another queue has the name"))
    assert len(waits) == 3
    worker.consumer.on_ready()  # it was connected for a while
    worker.consumer.on_connection_error_after_connected(OSError("another queue has the name"))
    assert len(waits) == 3

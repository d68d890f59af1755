"""Whoever can write to Redis can write messages to RQ. None of these may run what it names, or end a worker."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from app.jobs.enduring import rq_worker
from app.jobs.settings import JobSettings
from app.jobs.workers import RUN_JOB, Message, rq_queue
from app.worker import set_up

ID = "0" * 32


@pytest.fixture
def settings(job_settings: JobSettings, monkeypatch: pytest.MonkeyPatch) -> JobSettings:
    settings = job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})
    for name in ("queue_name", "redis_url"):
        monkeypatch.setenv(name.upper(), str(getattr(settings, name)))
    return settings


@pytest.fixture
def queue(settings: JobSettings) -> Queue:
    return rq_queue(settings, redis.Redis.from_url(str(settings.redis_url)))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A worker in this process leaves its signal handlers behind, and what it has read."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    set_up.cache_clear()


def work(settings: JobSettings, queue: Queue, **fields: Any) -> bool:
    """Whether a worker has done anything for a message with these fields. It goes on to the end of the queue."""
    name = uuid4().hex
    message: dict[Any, Any] = {
        "data": json.dumps([RUN_JOB, None, [ID], {}]),
        "origin": queue.name,
        "timeout": "30",
        **fields,
    }
    queue.connection.hset(f"rq:job:{name}", mapping=message)
    queue.connection.rpush(queue.key, name)
    worked = rq_worker(settings, SimpleWorker).work(burst=True)
    assert queue.count == 0
    return worked


def test_a_message_that_names_our_function_and_an_id_is_worked_on(settings: JobSettings, queue: Queue) -> None:
    assert work(settings, queue)


@pytest.mark.parametrize(
    "fields",
    [
        {"data": b"\xff no JSON"},
        {"data": "[]"},
        {"data": json.dumps([RUN_JOB, None, [], {}])},
        {"data": json.dumps([RUN_JOB, None, [{"no": "text"}], {}])},
        {"data": json.dumps([RUN_JOB, None, ["../" + ID], {}])},
        {"data": json.dumps([RUN_JOB, None, ["0" * 10_000_000], {}])},
        {"data": json.dumps([RUN_JOB, None, [ID], {"more": 1}])},
        {"data": json.dumps([RUN_JOB, "an object", [ID], {}])},
        {"data": "[" * 100_000},
        {"timeout": "soon"},
        {"status": "unknown"},
        {"created_at": "yesterday"},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_other_messages_are_dropped_and_end_no_worker(
    settings: JobSettings, queue: Queue, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert not work(settings, queue, **fields)
    assert "is dropped: it is no message of this service" in caplog.text


def test_a_message_runs_no_other_function(settings: JobSettings, queue: Queue, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert not work(settings, queue, data=json.dumps(["os.system", None, [f"touch {mark}"], {}]))
    assert not mark.exists()


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_a_message_has_no_callbacks(
    settings: JobSettings, queue: Queue, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    monkeypatch.setattr(json, "called_back", lambda *_: called.append(1), raising=False)
    assert work(settings, queue, **{f"{outcome}_callback_name": "json.called_back"})
    monkeypatch.setattr("app.worker.run_job", lambda _: 1 / 0)
    work(settings, queue, **{f"{outcome}_callback_name": "json.called_back"})
    assert called == []


def test_nor_one_for_a_job_that_is_stopped(queue: Queue) -> None:
    """Nothing stops a job of RQ's here, so the message itself is looked at."""
    message = Message("x", connection=queue.connection, serializer=JSONSerializer)
    message.restore({b"data": b'["x", null, [], {}]', b"stopped_callback_name": b"json.called_back"})
    assert message._stopped_callback_name is None


def test_a_key_of_another_kind_is_no_message(settings: JobSettings, queue: Queue) -> None:
    queue.connection.set(f"rq:job:{queue.name}", "text")
    queue.connection.rpush(queue.key, queue.name)
    assert work(settings, queue)  # the one behind it
    queue.connection.delete(f"rq:job:{queue.name}")

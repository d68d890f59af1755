import socket
import time
from threading import Thread

import pytest
from pydantic import AmqpDsn

from app.jobs import probe
from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from tests.jobs.fakes import opened


async def test_a_missing_rabbitmq_is_degraded_in_time_and_jobs_are_accepted(job_settings: JobSettings) -> None:
    away = job_settings.model_copy(update={"broker_url": AmqpDsn("amqp://guest:guest@127.0.0.1:1/%2F")})
    began = time.monotonic()
    async with opened(away) as jobs:
        checks = await jobs.backend.checks()
        job = await jobs.enqueue(index_document, Document(title="t", text="x"), caller="c")
        assert job.status == "queued"
    assert checks["redis"] == "ok"
    assert checks["broker"].startswith("degraded: ")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("says", ["nothing", "good-bye"])
def test_a_rabbitmq_that_does_not_answer_is_not_the_fault_of_a_worker(
    says: str, jobs_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A restart of the worker would bring no broker back."""
    for name, value in {**jobs_env, "QUEUE_NAME": "nobody"}.items():
        monkeypatch.setenv(name, value)
    assert str(probe.health()).endswith("is alive")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("BROKER_URL", f"amqp://127.0.0.1:{server.getsockname()[1]}")
        if says == "good-bye":
            Thread(target=lambda: server.accept()[0].close()).start()
        assert probe.health() is None
    assert probe.health() is None  # nobody is there any more
    assert capsys.readouterr().out.count("unknown: the broker does not answer") == 2

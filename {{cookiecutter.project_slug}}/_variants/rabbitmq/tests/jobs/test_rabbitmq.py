import time

from pydantic import AmqpDsn

from app.jobs.presence import health
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
        assert await health(away) is None  # a restart of the worker would bring no broker back
    assert checks["redis"] == "ok"
    assert checks["broker"].startswith("degraded: ")
    assert time.monotonic() - began < 5

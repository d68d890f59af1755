"""What jobs stand on in tests: a RabbitMQ that runs already, at TEST_BROKER_URL or where the settings look for it; the
Redis of the answers; and a real worker process."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import AmqpDsn, RedisDsn

from app.jobs.settings import JobSettings
from app.jobs.store import Store

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def broker_url() -> str:
    url = os.environ.get("TEST_BROKER_URL") or str(JobSettings.model_fields["broker_url"].default)
    at = urlsplit(url)
    try:
        socket.create_connection((at.hostname or "", at.port or 5672), timeout=5).close()
    except OSError:
        pytest.fail(f"no RabbitMQ answers at {at.hostname}:{at.port}: README.md says how to start one", pytrace=False)
    return url


@pytest.fixture(scope="session")
def jobs_env(redis_url: str, broker_url: str) -> dict[str, str]:
    """The environment of served processes. A queue name of their own keeps test runs on one server apart."""
    return {"REDIS_URL": redis_url, "BROKER_URL": broker_url, "QUEUE_NAME": f"test-{uuid4().hex[:8]}"}


@pytest.fixture(scope="session")
def job_settings(jobs_env: dict[str, str]) -> JobSettings:
    return JobSettings(
        _env_file=None,
        redis_url=RedisDsn(jobs_env["REDIS_URL"]),
        broker_url=AmqpDsn(jobs_env["BROKER_URL"]),
        queue_name=jobs_env["QUEUE_NAME"],
    )


@pytest.fixture
async def store(job_settings: JobSettings) -> AsyncIterator[Store]:
    """Empty, for its keys have a name of their own."""
    settings = job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})
    async with Store.open(settings) as store:
        yield store


@pytest.fixture(scope="session")
def worker(jobs_env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "app.worker"], cwd=ROOT, env={**os.environ, **jobs_env})
    yield
    process.terminate()
    assert process.wait(15) == 0

"""What jobs stand on in tests: the Redis of the answers, and a real worker process."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import RedisDsn

from app.jobs.settings import JobSettings
from app.jobs.store import Store

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def jobs_env(redis_url: str) -> dict[str, str]:
    """The environment of served processes. A queue name of their own keeps test runs on one server apart."""
    return {"REDIS_URL": redis_url, "QUEUE_NAME": f"test-{uuid4().hex[:8]}"}


@pytest.fixture(scope="session")
def job_settings(jobs_env: dict[str, str]) -> JobSettings:
    return JobSettings(_env_file=None, redis_url=RedisDsn(jobs_env["REDIS_URL"]), queue_name=jobs_env["QUEUE_NAME"])


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

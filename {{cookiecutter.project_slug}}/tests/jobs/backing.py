"""What jobs stand on in tests: the memory of the process."""

import pytest

from app.jobs.settings import JobSettings
from app.jobs.store import Store


@pytest.fixture(scope="session")
def job_settings() -> JobSettings:
    return JobSettings(_env_file=None)


@pytest.fixture(scope="session")
def jobs_env() -> dict[str, str]:
    return {}


@pytest.fixture
def store(job_settings: JobSettings) -> Store:
    return Store(job_settings.job_retention_seconds)


@pytest.fixture
def worker() -> None:
    """Jobs run in the web process: nothing to start."""

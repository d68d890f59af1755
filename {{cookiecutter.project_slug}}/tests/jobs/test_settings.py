import asyncio

import pytest

from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from app.shutdown import Shutdown
from tests.jobs.fakes import opened


@pytest.mark.parametrize("seconds", ["1.9", "3601", "nan", "soon"])
def test_a_lease_that_makes_no_sense_is_refused_by_name(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_LEASE_SECONDS", seconds)
    with pytest.raises(SystemExit, match="JOB_LEASE_SECONDS: "):
        JobSettings.read()


async def test_a_job_runs_with_the_largest_value_of_each_setting(job_settings: JobSettings, worker: None) -> None:
    """A queue library is told of some of them, too."""
    largest = {
        name: each.le
        for name, field in JobSettings.model_fields.items()
        for each in field.metadata
        if hasattr(each, "le")
    }
    assert largest["job_timeout_seconds"] > 86_400
    async with opened(job_settings.model_copy(update=largest), Shutdown(5)) as jobs:
        job = await jobs.enqueue(index_document, Document(title="t", text="x"), caller="c")
        async with asyncio.timeout(60):
            while not (job := await jobs.get(job.id, caller="c")).ended:
                await asyncio.sleep(0.01)
        assert job.status == "succeeded"

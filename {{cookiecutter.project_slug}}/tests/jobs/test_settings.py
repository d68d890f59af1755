import pytest

from app.jobs.settings import JobSettings


@pytest.mark.parametrize("seconds", ["1.9", "3601", "nan", "soon"])
def test_a_lease_that_makes_no_sense_is_refused_by_name(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_LEASE_SECONDS", seconds)
    with pytest.raises(SystemExit, match="JOB_LEASE_SECONDS: "):
        JobSettings.read()

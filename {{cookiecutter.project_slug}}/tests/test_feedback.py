import logging

import pytest
from fastapi.testclient import TestClient

GOOD = {"stream_id": "s-1", "rating": 1, "comment": "fine\nindeed"}


def audits(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "app.audit"]


def test_feedback_is_accepted_and_recorded(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    response = client.post("/feedback", json=GOOD)
    assert response.status_code == 202
    (record,) = audits(caplog)
    assert vars(record).items() >= {"event_id": response.json()["event_id"], **GOOD}.items()


def test_the_same_idempotency_key_is_recorded_once(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert client.post("/feedback", json=GOOD, headers={"Idempotency-Key": "k"}).status_code == 202
    client.post("/feedback", json=GOOD, headers={"Idempotency-Key": "other"})
    assert len(audits(caplog)) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rating": 0}, "rating"),
        ({"rating": 2}, "rating"),
        ({"stream_id": ""}, "stream_id"),
        ({"comment": 1}, "comment"),
    ],
)
def test_bad_feedback_is_a_422_that_names_the_field(client: TestClient, change: dict[str, object], field: str) -> None:
    response = client.post("/feedback", json={**GOOD, **change})
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", field])

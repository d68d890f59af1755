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
    told = {"event_id": response.json()["event_id"], "caller": "anonymous", **GOOD}
    assert vars(record).items() >= told.items()


def test_the_same_idempotency_key_is_recorded_once(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert client.post("/feedback", json=GOOD, headers={"Idempotency-Key": "k"}).status_code == 202
    client.post("/feedback", json=GOOD, headers={"Idempotency-Key": "other"})
    assert len(audits(caplog)) == 2


def test_a_key_belongs_to_its_caller(named: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """Also where a name and a key, one behind the other, read like those of another caller."""
    for caller, key in (("a", "b:c"), ("a:b", "c"), ("a", "b:c"), ("a' 'b", "c"), ("a", "b' 'c")):
        named.post("/feedback", json=GOOD, headers={"Authorization": f"Bearer {caller}", "Idempotency-Key": key})
    assert [vars(record)["caller"] for record in audits(caplog)] == ["a", "a:b", "a' 'b", "a"]


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

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.chat.providers.base import Provider
from app.errors import TooMany
from app.settings import Settings
from tests.providers import ScriptedProvider
from tests.sse import Received, names, parse

DOCUMENT = {"title": "Hamlet", "text": "To be, or not to be. " * 200}


def followed(client: TestClient, job_id: str, last_id: int = 0) -> list[Received]:
    """All of the job's events: reading them is also how a test waits for its end."""
    headers = {"Last-Event-ID": str(last_id)} if last_id else {}
    return parse(client.get(f"/jobs/{job_id}/events", headers=headers).text)


def test_the_path_of_a_job_has_the_prefix_of_the_service(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    with TestClient(build(settings, provider), root_path="/api") as client:
        location = client.post("/api/documents", json=DOCUMENT).headers["Location"]
        assert location.startswith("/api/jobs/")
        assert client.get(location).status_code == 200


def test_a_document_is_accepted_done_and_its_result_kept(client: TestClient, worker: None) -> None:
    response = client.post("/documents", json=DOCUMENT)
    job = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/jobs/{job['id']}")
    assert (job["attempts"], job["result"], job["error"], job["ended_at"]) == (0, None, None, None)
    *states, done = followed(client, job["id"])
    assert (states[0].data["state"], states[-1].data["state"]) == ("queued", "succeeded")
    assert (states[-1].data["progress"]["fraction"], done.data) == (1.0, {"reason": "end"})
    record = client.get(f"/jobs/{job['id']}").json()
    assert (record["status"], record["attempts"], record["progress"]["fraction"]) == ("succeeded", 1, 1.0)
    assert record["result"]["words"] == 1200
    assert record["created_at"] <= record["started_at"] <= record["ended_at"]


def test_a_follower_goes_on_where_it_was_and_is_told_when_there_is_no_more(client: TestClient, worker: None) -> None:
    job_id = client.post("/documents", json=DOCUMENT).json()["id"]
    whole = followed(client, job_id)
    assert [event.id for event in whole] == [str(number) for number in range(1, len(whole) + 1)]
    assert followed(client, job_id, last_id=2) == whole[2:]
    last = {"Last-Event-ID": str(len(whole))}
    assert client.get(f"/jobs/{job_id}/events", headers=last).status_code == 204


def test_jobs_are_listed_by_their_status(client: TestClient, worker: None) -> None:
    job_id = client.post("/documents", json=DOCUMENT).json()["id"]
    followed(client, job_id)
    listed = client.get("/jobs", params={"status": "succeeded", "limit": 1}).json()
    assert [(job["id"], job["task"], job["status"]) for job in listed] == [(job_id, "index_document", "succeeded")]
    assert "result" not in listed[0]
    assert job_id in [job["id"] for job in client.get("/jobs").json()]
    assert job_id not in [job["id"] for job in client.get("/jobs", params={"status": "failed"}).json()]


@pytest.mark.parametrize("wrong", [{"status": "nope"}, {"limit": 0}, {"limit": 101}, {"limit": "1_0"}])
def test_a_bad_question_for_jobs_is_a_422_that_names_the_field(client: TestClient, wrong: dict[str, str]) -> None:
    response = client.get("/jobs", params=wrong)
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["query", *wrong])


def test_the_same_idempotency_key_is_one_job(client: TestClient, worker: None) -> None:
    headers = {"Idempotency-Key": "k-1"}
    ids = {client.post("/documents", json=DOCUMENT, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert client.post("/documents", json={**DOCUMENT, "title": "x"}, headers=headers).status_code == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/jobs/nope"), ("GET", "/jobs/nope/events"), ("DELETE", "/jobs/nope"), ("POST", "/jobs/nope/retry")],
)
def test_an_unknown_job_is_a_404(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.json()) == (404, {"detail": "there is no such job"})


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/jobs/{}"), ("POST", "/jobs/{}/retry")])
def test_what_the_status_does_not_allow_is_a_409_that_names_it(
    client: TestClient, worker: None, method: str, path: str
) -> None:
    job_id = client.post("/documents", json=DOCUMENT).json()["id"]
    followed(client, job_id)
    response = client.request(method, path.format(job_id))
    assert response.status_code == 409
    assert "the job is succeeded" in response.json()["detail"]


@pytest.mark.parametrize(
    ("change", "field"), [({"text": ""}, "text"), ({"title": ""}, "title"), ({"title": "x" * 201}, "title")]
)
def test_a_bad_document_is_a_422_that_names_the_field(client: TestClient, change: dict[str, str], field: str) -> None:
    response = client.post("/documents", json={**DOCUMENT, **change})
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", field])


@pytest.mark.parametrize("place", ["x", "1_0"])
def test_a_bad_last_event_id_is_a_422(client: TestClient, place: str) -> None:
    assert client.get("/jobs/nope/events", headers={"Last-Event-ID": place}).status_code == 422


def test_the_docs_describe_the_stream_of_a_job(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/jobs/{job_id}/events"]["get"]["responses"]["200"]
    assert names(described["content"]["text/event-stream"]["example"])[-1] == "done"


def test_a_server_that_ends_without_a_signal_drains(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    with TestClient(build(settings, provider)) as client:
        shutdown = client.app_state["shutdown"]
        assert not shutdown.draining
    assert shutdown.draining


def test_who_may_begin_no_more_is_told(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> None:
    async def refuse(caller: str) -> None:
        raise TooMany("wait for 9 s", limit="some", quota=1, per="w=60", seconds=9)

    app = build(settings, provider)
    app.limits.append(refuse)  # type: ignore[attr-defined]
    with TestClient(app) as client:
        refused = client.post("/documents", json=DOCUMENT)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "9")
        assert refused.json() == {"detail": "wait for 9 s"}

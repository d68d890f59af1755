import json
import time

import pytest
from fastapi.testclient import TestClient
from rq import Worker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from app.jobs.probe import health
from app.jobs.signs import WORKER_KEY, WORKERS_KEY
from app.worker import main
from tests.server import Server


def test_a_document_posted_over_http_is_done_by_a_worker_process(server: Server, worker: None) -> None:
    posted = server.request("POST", "/documents", json.dumps({"title": "t", "text": "lorem ipsum " * 1000}))
    assert posted.status == 202
    location = posted.headers["Location"]
    deadline = time.monotonic() + 30
    while (record := json.load(server.request("GET", location)))["status"] != "succeeded":
        assert time.monotonic() < deadline, record
        time.sleep(0.05)
    assert (record["attempts"], record["result"]["words"]) == (1, 2000)


def test_a_live_worker_shows_in_readiness(client: TestClient, worker: None) -> None:
    deadline = time.monotonic() + 30
    while (answer := client.get("/ready", params={"strict": 1})).status_code != 200:
        assert time.monotonic() < deadline, answer.json()
        time.sleep(0.05)
    assert answer.json() == {"status": "ok", "checks": {"answers": "ok", "redis": "ok", "worker": "ok", "jobs": "ok"}}


@pytest.fixture
def environment(jobs_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in jobs_env.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_worker_of_this_host_is_healthy_while_it_lives(environment: pytest.MonkeyPatch, worker: None) -> None:
    deadline = time.monotonic() + 30
    while (wrong := health()) is not None:
        assert time.monotonic() < deadline, wrong
        time.sleep(0.05)
    environment.setattr("socket.gethostname", lambda: "elsewhere")
    assert health() == "no worker of elsewhere is alive"


def test_a_queue_that_no_worker_listens_to_is_not_healthy(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUEUE_NAME", "nobody")
    assert str(health()).endswith("is alive")


def test_the_probe_looks_where_rq_keeps_its_workers() -> None:
    assert WORKERS_KEY.format("q") == WORKERS_BY_QUEUE_KEY % "q"
    assert WORKER_KEY.format("w") == f"{Worker.redis_worker_namespace_prefix}w"


def test_more_than_one_queue_is_refused_and_why_is_said(environment: pytest.MonkeyPatch) -> None:
    assert "exactly one queue" in str(main(["high", "low"]))
    environment.setenv("QUEUE_NAME", "high,low")
    with pytest.raises(SystemExit, match=r"QUEUE_NAME: .* a worker listens to exactly one queue"):
        main([])

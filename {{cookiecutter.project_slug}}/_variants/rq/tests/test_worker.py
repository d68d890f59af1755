import json
import time

from fastapi.testclient import TestClient

from tests.server import Serve


def test_a_document_posted_over_http_is_done_by_a_worker_process(serve: Serve, worker: None) -> None:
    server = serve()
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
    assert answer.json() == {"status": "ok", "checks": {"redis": "ok", "worker": "ok"}}

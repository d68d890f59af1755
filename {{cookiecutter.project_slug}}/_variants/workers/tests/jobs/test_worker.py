import json
import os
import re
import subprocess
import sys
import time
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from tests.server import ROOT, Server


def worker_command(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app.worker", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)


def test_a_document_posted_over_http_is_done_by_a_worker_process(server: Server, worker: None) -> None:
    posted = server.request("POST", "/documents", json.dumps({"title": "t", "text": "lorem ipsum " * 1000}))
    assert posted.status == 202
    location = posted.headers["Location"]
    deadline = time.monotonic() + 30
    while (record := json.load(server.request("GET", location)))["status"] != "succeeded":
        assert time.monotonic() < deadline, record
        time.sleep(0.05)
    assert (record["attempts"], record["result"]["words"]) == (1, 2000)


def test_a_live_worker_shows_in_readiness_and_in_its_own_health(
    client: TestClient, worker: None, jobs_env: dict[str, str]
) -> None:
    deadline = time.monotonic() + 30
    while (answer := client.get("/ready", params={"strict": 1})).status_code != 200:
        assert time.monotonic() < deadline, answer.json()
        time.sleep(0.05)
    names = "answers", "redis", "broker", "worker", "jobs"
    assert answer.json() == {"status": "ok", "checks": dict.fromkeys(names, "ok")}
    assert worker_command(jobs_env, "health").returncode == 0


def test_a_queue_that_no_worker_listens_to_is_not_healthy(jobs_env: dict[str, str]) -> None:
    done = worker_command({**jobs_env, "QUEUE_NAME": f"nobody-{uuid4().hex[:8]}"}, "health")
    assert done.returncode == 1
    assert "is alive" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "queue", "said"),
    [
        (["high", "low"], "high", "exactly one queue"),
        ([], "high,low", "QUEUE_NAME: .*exactly one queue"),
        (["--bogus"], "high", "--bogus"),
    ],
)
def test_what_a_worker_can_not_do_is_refused_and_said(
    jobs_env: dict[str, str], arguments: list[str], queue: str, said: str
) -> None:
    done = worker_command({**jobs_env, "QUEUE_NAME": queue}, *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert re.search(said, done.stderr)

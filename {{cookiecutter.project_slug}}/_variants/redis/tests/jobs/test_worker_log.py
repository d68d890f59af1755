"""What a real worker logs of its jobs."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from app import logs, telemetry
from app.jobs.definition import Task
from app.jobs.settings import JobSettings
from app.jobs.tasks import Document, index_document
from tests.jobs.fakes import nothing, opened
from tests.server import ROOT, Server

MARKED = "m4rk3d"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOO_LONG = " ".join(f"{MARKED}{letter * 50}" for letter in "abcdefghij")  # for a result of 500 bytes


class Another(BaseModel):
    """What the worker's version of the service can't read."""

    title: list[str]


async def ended(settings: JobSettings) -> dict[str, str]:
    """The ids of jobs of three kinds that have ended."""
    another: Any = Task(index_document.name, nothing, Another)
    payloads: list[tuple[str, Any, BaseModel]] = [
        ("good", index_document, Document(title=MARKED, text=f"{MARKED} and more")),
        ("failing", index_document, Document(title=MARKED, text=TOO_LONG)),
        ("refused", another, Another(title=[MARKED])),
    ]
    async with opened(settings) as jobs, asyncio.timeout(60):
        ids = {}
        for kind, task, payload in payloads:
            logs.request_id.set(f"trace-{kind}")
            telemetry.join_trace(f"00-{TRACE}-00f067aa0ba902b7-01")
            ids[kind] = (await jobs.enqueue(task, payload, caller=f"{kind}-caller")).id
        while not all([(await jobs.get(job_id, caller=f"{kind}-caller")).ended for kind, job_id in ids.items()]):
            await asyncio.sleep(0.05)
    return ids


def test_of_each_attempt_there_is_a_line_and_nothing_of_what_it_was_given(
    jobs_env: dict[str, str], job_settings: JobSettings, tmp_path: Path
) -> None:
    """Also at the level DEBUG. Each line is JSON, of libraries too."""
    queue = f"test-{uuid4().hex[:8]}"
    own = {"QUEUE_NAME": queue, "LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}
    limits = {"JOB_MAX_RESULT_BYTES": "500", "JOB_UNKNOWN_TASK_SECONDS": "0"}
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.worker"],
            cwd=ROOT,
            env=os.environ | jobs_env | own | limits,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
        )
        worker = Server(process, 0)
        try:
            ids = asyncio.run(ended(job_settings.model_copy(update={"queue_name": queue})))
            worker.stop()
        finally:
            worker.close()
    objects: list[dict[str, Any]] = [json.loads(line) for line in worker.log.splitlines()]
    told = {found["job"]: found for found in objects if "outcome" in found}
    assert [told[ids[kind]]["outcome"] for kind in ids] == ["succeeded", "failed", "failed"]
    assert sum("outcome" in found for found in objects) == len(ids)
    for kind, job_id in ids.items():
        found = told[job_id]
        assert (found["request_id"], found["caller"]) == (f"trace-{kind}", f"{kind}-caller")
        assert {each["trace_id"] for each in objects if each.get("job") == job_id} == {TRACE}
        assert (found["task"], found["attempt"]) == ("index_document", 1)
        assert 0 <= found["seconds"] < 60
        assert next(found["message"] for found in objects if found.get("job") == job_id) == "job begun"
    assert "larger than 500 bytes" in told[ids["failing"]]["traceback"]
    assert MARKED not in worker.log
    assert MARKED not in (tmp_path / "printed").read_text()

# Appended to the routes of a copied project, as its user would add some of his own.
# mypy: disable-error-code="import-not-found", disallow-untyped-decorators=False, disallow-any-unimported=False
from typing import Annotated, Any

from app.callers.caller import CallerDep
from app.jobs.definition import TASKS
from app.jobs.dependencies import JobsDep
from app.jobs.routes import router
from app.jobs.tasks import Probe
from fastapi import Header, Request


@router.post("/tasks/{name}", status_code=202)
async def add_probe(
    name: str,
    probe: Probe,
    jobs: JobsDep,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    job = await jobs.enqueue(TASKS[name], probe, caller=caller.name, key=idempotency_key)
    return {"id": job.id, "status": job.status}


@router.post("/tasks/{name}/several", status_code=202)
async def add_probes(name: str, probes: dict[str, Probe], jobs: JobsDep, caller: CallerDep) -> list[str]:
    """One for each key."""
    return [(await jobs.enqueue(TASKS[name], probe, caller=caller.name, key=key)).id for key, probe in probes.items()]


@router.post("/statuses")
async def read_statuses(ids: list[str], jobs: JobsDep) -> list[str]:
    """Of each of these jobs, as `GET /jobs/{job_id}` finds it: a request for each would be most of a test's work."""
    return [(await jobs.get(job_id)).status for job_id in ids]


@router.post("/messages", status_code=202)
async def add_messages(ids: list[str], jobs: JobsDep, request: Request) -> None:
    """One more message for each of these jobs, as a broker repeats what it delivers."""
    await request.state.backend.dispatch([await jobs.get(job_id) for job_id in ids])

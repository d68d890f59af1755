from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel

from app.callers.caller import CallerDep
from app.dependencies import Digits, OneStream
from app.jobs.dependencies import JobsDep
from app.jobs.events import JobChanged
from app.jobs.job import Job
from app.jobs.queue import JobQueue
from app.jobs.result import BadResult
from app.jobs.status import JobError, JobStatus, Progress
from app.jobs.tasks import Document, index_document
from app.streams.docs import stream_docs
from app.streams.events import Done
from app.streams.response import EventStream

router = APIRouter(tags=["jobs"])
FOLLOW_DOCS = stream_docs(
    "A `status` for each change, and one `done` when the job has ended, whose `reason` is `end`, `error` or "
    "`cancelled`.",
    JobChanged("running", {"fraction": 0.5, "message": "chunk 17 of 34"}),
    JobChanged("succeeded", {"fraction": 1.0, "message": "chunk 34 of 34"}),
    Done(),
)


class JobSummary(BaseModel, from_attributes=True):
    id: str
    task: str
    status: JobStatus
    attempts: int
    progress: Progress
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class JobView(JobSummary):
    result: Any = None


@router.post("/documents", status_code=202)
async def add_document(
    document: Document,
    jobs: JobsDep,
    caller: CallerDep,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobView:
    """Two requests with the same `Idempotency-Key` are one job."""
    job = await jobs.enqueue(index_document, document, caller=caller.name, key=idempotency_key)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/jobs/{job.id}"
    return await _view(jobs, job)


@router.get("/jobs")
async def list_jobs(
    jobs: JobsDep,
    caller: CallerDep,
    status: JobStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=100), Digits] = 20,
) -> list[JobSummary]:
    """The caller's own. Those whose status changed last come first. Results are left out."""
    return [JobSummary.model_validate(job) for job in await jobs.latest(status, limit, caller=caller.name)]


@router.get("/jobs/{job_id}")
async def read_job(job_id: str, jobs: JobsDep, caller: CallerDep) -> JobView:
    return await _view(jobs, await jobs.get(job_id, caller=caller.name))


@router.get("/jobs/{job_id}/events", response_class=EventStream, responses=FOLLOW_DOCS, dependencies=[OneStream])
async def follow_job(
    job_id: str,
    jobs: JobsDep,
    caller: CallerDep,
    last_event_id: Annotated[int, Header(ge=0, le=2**31), Digits] = 0,
) -> Response:
    """Streams a `status` for each change and one `done`; with `Last-Event-ID`, what has come since."""
    after = await jobs.resume(job_id, last_event_id, caller=caller.name)
    if after is None:
        return Response(status_code=204)
    return EventStream(jobs.log(job_id, caller=caller.name), after=after)


@router.delete("/jobs/{job_id}", status_code=202)
async def cancel_job(job_id: str, jobs: JobsDep, caller: CallerDep) -> JobView:
    return await _view(jobs, await jobs.cancel(job_id, caller=caller.name))


@router.post("/jobs/{job_id}/retry", status_code=202)
async def retry_job(job_id: str, jobs: JobsDep, caller: CallerDep) -> JobView:
    """Runs a failed job again."""
    return await _view(jobs, await jobs.retry(job_id, caller=caller.name))


async def _view(jobs: JobQueue, job: Job) -> JobView:
    view = JobView.model_validate(job)
    if job.status == "succeeded":
        try:
            view.result = await jobs.result(job)
        except BadResult as error:
            view.error = JobError(code="job_result", message=str(error), request_id=job.request_id)
    return view

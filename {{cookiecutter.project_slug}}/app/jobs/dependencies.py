"""What the room has opened, by the names that routes use."""

import asyncio
from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from app.errors import Unavailable
from app.jobs.queue import JobQueue
from app.jobs.relay import Backend

CHECK_SECONDS = 0.5  # less than the second that Kubernetes gives a probe
LATE_SECONDS = 60.0  # a job that has waited for longer is told of


class State(TypedDict):
    jobs: JobQueue
    backend: Backend


async def _jobs(request: Request) -> JobQueue:
    return cast(State, request.state)["jobs"]


async def checks(request: Request) -> dict[str, str]:
    """Of each service that jobs need, and of the jobs, whether it is `ok`, or why it is not. Never raises."""
    state = cast(State, request.state)
    found, jobs = await asyncio.gather(state["backend"].checks(), _begun_in_time(state["jobs"]))
    return found | {"jobs": jobs}


async def _begun_in_time(jobs: JobQueue) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            seconds = (await jobs.backlog()).oldest_seconds
    except (Unavailable, TimeoutError):
        return "degraded: unknown without their store"
    return "ok" if seconds <= LATE_SECONDS else f"degraded: one has waited for {seconds:.0f} s"


JobsDep = Annotated[JobQueue, Depends(_jobs)]

"""What the room has opened, by the names that routes use."""

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from app.jobs.queue import JobQueue
from app.jobs.relay import Backend


class State(TypedDict):
    jobs: JobQueue
    backend: Backend


async def _jobs(request: Request) -> JobQueue:
    return cast(State, request.state)["jobs"]


async def checks(request: Request) -> dict[str, str]:
    """Of each service that jobs need, whether it is `ok`, or why it is not. Never raises."""
    return await cast(State, request.state)["backend"].checks()


JobsDep = Annotated[JobQueue, Depends(_jobs)]

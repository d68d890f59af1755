from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.dependencies import (
    JobsDep,
    ShutdownDep,
)

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Each check is `ok`, or `degraded: ` and why."""

    status: Literal["ok", "degraded", "draining"]
    checks: dict[str, str]


@router.get("/health")
async def health() -> Health:
    return Health()


@router.get("/ready", responses={503: {"model": Readiness}})
async def ready(
    response: Response,
    shutdown: ShutdownDep,
    jobs: JobsDep,
    strict: bool = False,
) -> Readiness:
    """503 while the server drains. What is degraded shows, and is 503 only with `strict=1`: the chat still
    answers, so the balancer must keep this server."""
    checks: dict[str, str] = {}
    checks |= await jobs.checks()
    degraded = any(state != "ok" for state in checks.values())
    if shutdown.draining or (strict and degraded):
        response.status_code = 503
    return Readiness(status="draining" if shutdown.draining else "degraded" if degraded else "ok", checks=checks)

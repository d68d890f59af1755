import asyncio
from typing import Literal, cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.application import App
from app.callers.guard import open_to_all
from app.dependencies import ShutdownDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Each check is `ok`, or `degraded: ` and why."""

    status: Literal["ok", "degraded", "draining"]
    checks: dict[str, str]


@router.head("/health", include_in_schema=False)  # some monitors send nothing else
@router.get("/health")
@open_to_all
async def health() -> Health:
    return Health()


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={503: {"model": Readiness}})
@open_to_all
async def ready(request: Request, response: Response, shutdown: ShutdownDep, strict: bool = False) -> Readiness:
    """503 while the server drains, for who is connected: new connections are refused then. `checks` shows what is
    degraded, which is a 503 only with `strict=1`: the chat still answers, so a load balancer must keep this server."""
    # Side by side: several services that stall at once must not take longer than a probe waits.
    found = await asyncio.gather(*(check(request) for check in cast(App, request.app).checks))
    checks = {name: state for each in found for name, state in each.items()}
    degraded = any(state != "ok" for state in checks.values())
    if shutdown.draining or (strict and degraded):
        response.status_code = 503
    return Readiness(status="draining" if shutdown.draining else "degraded" if degraded else "ok", checks=checks)

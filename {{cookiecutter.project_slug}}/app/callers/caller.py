"""Who calls."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request


@dataclass(frozen=True)
class Caller:
    name: str  # of the owner of answers, jobs and idempotency keys. It may be logged


ANONYMOUS = Caller("anonymous")  # whoever is not asked who they are


async def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


CallerDep = Annotated[Caller, Depends(_caller)]

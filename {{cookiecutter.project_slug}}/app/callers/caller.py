"""Who calls."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request


@dataclass(frozen=True)
class Caller:
    """Answers, jobs and idempotency keys are kept under the `name` of their caller. It may be logged."""

    name: str


ANONYMOUS = Caller("anonymous")
"""Whoever calls a server that asks nobody who they are."""


async def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


CallerDep = Annotated[Caller, Depends(_caller)]

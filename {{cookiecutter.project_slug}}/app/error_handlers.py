"""How errors look over HTTP: `{"detail": …}`, without anything that the client has sent."""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app import telemetry
from app.errors import AppError, TooMany

log = logging.getLogger(__name__)
UNREADABLE = "There was an error parsing the body"  # what FastAPI says of one: a route may raise a 400 of its own
TOLD = 10
SHORT_CHARS = 300
REFUSED_A_SECOND = 200  # each costs some 0.5 ms of CPU, so they take a tenth of a core
LONGEST_TURN_SECONDS = 5.0


class Refusals:
    """Callers are told in turn that they have asked too much, REFUSED_A_SECOND of them. Else one who asks again at
    once, over many connections, takes all of the process's time, and others wait for their answers."""

    def __init__(self) -> None:
        self._next = 0.0

    async def wait_turn(self) -> None:
        """Until it is one's turn. Who would wait for LONGEST_TURN_SECONDS or more is told at once, for who waits has a
        connection."""
        now = monotonic()
        turn = max(now, self._next)
        if turn - now < LONGEST_TURN_SECONDS:
            self._next = turn + 1 / REFUSED_A_SECOND
            await asyncio.sleep(turn - now)


def install(app: FastAPI) -> None:
    """Makes the application answer every error in this form."""
    refusals = Refusals()

    @app.exception_handler(AppError)
    async def render(request: Request, error: AppError) -> Response:
        if error.limit:
            telemetry.refused(error.limit)
        if isinstance(error, TooMany):
            await refusals.wait_turn()
        return JSONResponse({"detail": str(error)}, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def render_invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error.errors())

    @app.exception_handler(HTTPException)
    async def render_http(request: Request, error: HTTPException) -> Response:
        # FastAPI answers 400 when it can't decode a body: invalid UTF-8, a number of 5,000 digits, 100,000 brackets.
        if error.detail == UNREADABLE and isinstance(error.__cause__, (ValueError, RecursionError)):
            return _invalid([{"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error"}])
        return await http_exception_handler(request, error)

    @app.exception_handler(Exception)
    async def render_unexpected(request: Request, error: Exception) -> Response:
        """Starlette raises the exception again after this response. So the server logs it too, with the same id."""
        log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
        return JSONResponse({"detail": "internal error"}, 500)


def _invalid(errors: Sequence[Any]) -> Response:
    """Leaves the input out. FastAPI's own answer echoes it, and fails with a 500 on a NaN or a lone surrogate. Names
    TOLD places at most: a body may have as many faults as characters, and fields with names of its own."""
    told = [
        {"type": error["type"], "loc": [_short(part) for part in error["loc"][:TOLD]], "msg": _short(error["msg"])}
        for error in errors[:TOLD]
    ]
    return JSONResponse({"detail": told}, 422)


def _short(part: str | int) -> str | int:
    return part[:SHORT_CHARS] if isinstance(part, str) else part

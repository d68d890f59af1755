"""Lets in who says who they are. An endpoint that needs no saying has the mark `@open_to_all`, where its route is."""

import logging
from contextlib import suppress
from typing import Protocol, TypeVar

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app import logs
from app.callers.caller import ANONYMOUS, Caller
from app.errors import AppError

log = logging.getLogger(__name__)
Endpoint = TypeVar("Endpoint")
MARK = "open_to_all"


class Callers(Protocol):
    """How callers are known. `KnownCallers` is the way of the settings; yours may ask a table of users."""

    required: bool  # whether callers must say who they are
    needs: str  # what is told to whom this does not know

    async def find(self, token: str) -> Caller | None: ...  # raises Unavailable while that can't be known
    async def check(self) -> dict[str, str]: ...  # for `/ready`: a Check, as in app/application.py. Never raises


def open_to_all(endpoint: Endpoint) -> Endpoint:
    """Marks a route's function, or an application that is mounted. Its caller is ANONYMOUS, with a token too."""
    setattr(endpoint, MARK, True)
    return endpoint


def is_open(scope: Scope) -> bool:
    """Whether the route is open that will answer: the first that fits path and method. No WebSocket is. Since FastAPI
    0.137, `app.routes` is a tree. A router in it says whether it fits, and not by which of its routes."""
    with suppress(Exception):  # of a route, as for an `{id:int}` with too many digits: the router raises it too
        routes = scope["app"].routes if scope["type"] == "http" else []
        fits = next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)
        for each in iter_route_contexts([fits] if fits else []):
            if isinstance(each.original_route, APIRoute) and type(each.original_route).matches is not APIRoute.matches:
                return False  # by its own way to fit, which only the router can ask
            if (match := each.matches(scope))[0] is Match.FULL:
                return is_marked(match[1].get("endpoint"))
    return False


class Guard:
    """Asks who calls, before a body is read, and puts the caller into the request's state."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self.app = app
        self.callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["state"]["caller"] = ANONYMOUS
            if not is_open(scope):
                refusal = JSONResponse({"detail": self.callers.needs}, 401, {"WWW-Authenticate": "Bearer"})
                try:
                    caller = await self.callers.find(token) if (token := _token(scope)) else None
                except AppError as error:
                    caller, refusal = None, JSONResponse({"detail": str(error)}, error.status, error.headers)
                except Exception:
                    log.exception("it can't be found out who calls")
                    caller, refusal = None, JSONResponse({"detail": "internal error"}, 500)
                if caller is None:
                    await (WebSocketClose() if scope["type"] == "websocket" else refusal)(scope, receive, send)
                    return
                scope["state"]["caller"] = caller
                logs.caller.set(caller.name)
        await self.app(scope, receive, send)


def is_marked(endpoint: object) -> bool:
    return getattr(endpoint, MARK, False) is True


def _token(scope: Scope) -> str | None:
    """Two headers are none: what stands before this server may have looked at the other one."""
    given = Headers(scope=scope).getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return token.strip() or None if scheme.lower() == "bearer" else None

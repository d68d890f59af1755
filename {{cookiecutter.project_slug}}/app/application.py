"""App: FastAPI, and how rooms join it.

A room is a part of the service in a folder of its own, such as the chat. It adds its routes, the checks of what it
needs, and what it opens while the server runs. That is the `lifespan` of a router: FastAPI enters it after the
application's own, leaves it before, and puts what it yields into `request.state`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.shutdown import Shutdown

Check = Callable[[Request], Awaitable[dict[str, str]]]
"""Tells of each service that a room needs whether it is `ok`, or why it is not. Never raises."""


class App(FastAPI):
    """FastAPI with `outside` middleware, the first of which is the outermost.

    It stands outside of FastAPI's own, which answers a body that is too large and an exception that nobody has handled:
    those answers too need the request id and the CORS headers.
    """

    shutdown: Shutdown
    """Of the lifespan that runs now."""

    def __init__(self, *, outside: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self.outside = list(outside)
        self.checks: list[Check] = []

    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        for middleware, arguments, options in reversed(self.outside):
            stack = middleware(stack, *arguments, **options)
        return stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.shutdown.connections.note(scope, send)
        await super().__call__(scope, receive, send)


Room = Callable[[App], None]
"""Joins the application."""

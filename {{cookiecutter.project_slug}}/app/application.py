"""App: FastAPI, and how rooms join it.

A room is a part of the service in a folder of its own, such as the chat. It adds its routes, checks of the services
that it needs, and limits of callers. In the `lifespan` of a router it opens what it uses while the server runs. FastAPI
enters that lifespan after the application's own, and leaves it before. It puts what the lifespan yields into
`request.state`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.admission import Admit
from app.callers.guard import is_marked
from app.client_limits import limit_clients
from app.connections import processes
from app.descriptors import share_descriptors
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.places import Places

Check = Callable[[Request], Awaitable[dict[str, str]]]
"""For each service that a room needs, `ok`, or `degraded: ` and why. Never raises, and limits its own time."""


class App(FastAPI):
    """FastAPI, with `outside` middleware around FastAPI's own. The first is the outermost.

    FastAPI's own middleware answers a body that is too large, and an exception that nobody has handled. Those answers
    need the request id and the CORS headers too.
    """

    shutdown: Shutdown
    """The one of the lifespan that runs now. Before the first lifespan there is none. Rooms take it from here, and
    routes take the same one from `request.state`."""

    places: Places
    """Of its open streams. It belongs to that lifespan too."""

    processes = 1
    """How many the server runs, as far as it says. What this one has in its memory is unknown to the others."""

    def __init__(self, settings: Settings, *, outside: Sequence[Middleware], closed: bool, **options: Any) -> None:
        """If it is `closed`, callers must say who they are."""
        super().__init__(**options)
        self.settings = settings
        self.closed = closed
        self.outside = list(outside)
        self.checks: list[Check] = []
        self.most_streams = settings.max_streams
        self.limits: list[Admit] = []  # asked in this order, before an answer or a job begins
        self.shared: dict[type, Any] = {}  # what rooms have opened for those that are opened behind them, by its type

    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        for middleware, arguments, options in reversed(self.outside):
            stack = middleware(stack, *arguments, **options)
        return stack

    def openapi(self) -> dict[str, Any]:
        """Says what needs a token, which is all but the open routes. `/docs` has a field for it then."""
        schema = super().openapi()
        if self.closed:
            schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
            for route in filter(lambda route: is_marked(route.endpoint), iter_route_contexts(self.routes)):
                documented = schema["paths"].get(route.path_format, {})
                for method in (route.methods or set()) & {name.upper() for name in documented}:
                    documented[method.lower()]["security"] = []
        return schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not hasattr(self, "shutdown"):
                raise RuntimeError("the lifespan has not begun: in a test, use `with TestClient(app) as client`")
            self.shutdown.connections.note(scope, send)
        elif scope["type"] == "lifespan":
            self.processes = processes(receive)
            shares = share_descriptors(self.settings.max_streams)
            self.most_streams = shares.streams
            seconds = self.settings.request_timeout_seconds, self.settings.send_timeout_seconds
            limit_clients(receive, *seconds, shares.unfinished)
        await super().__call__(scope, receive, send)


Room = Callable[[App], None]
"""Gets the application once, and adds the room to it."""

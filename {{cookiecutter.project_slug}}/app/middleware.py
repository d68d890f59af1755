"""Middleware for every request. It is pure ASGI: `BaseHTTPMiddleware` would stand between a stream and its client."""

import re
from collections.abc import Awaitable, Collection
from ipaddress import ip_address
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app import telemetry
from app.callers.caller import ANONYMOUS
from app.callers.guard import is_open
from app.logs import caller, request_id

SAFE_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
LENGTHS = {b"content-length", b"transfer-encoding"}
PORT = re.compile(":[0-9]*$")  # an address of IPv6 is in brackets


class RequestId:
    """Gives each request an id: the caller's `X-Request-ID` if it is harmless in a log line, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        this = given if SAFE_REQUEST_ID.fullmatch(given) else uuid4().hex
        request_id.set(this)
        caller.set("-")  # a request that came while another was answered begins with the context of that one
        telemetry.join_trace(headers.get("traceparent", ""))

        def send_with_id(message: Message) -> Awaitable[None]:  # no coroutine of its own: each token passes it
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = this
            return send(message)

        await self.app(scope, receive, send_with_id)


class OneLength:
    """Refuses a request that says its length by both `Content-Length` and `Transfer-Encoding`, as h11 does not, and
    closes its connection. A proxy that believes the other one would take its rest for somebody's request (RFC 9112,
    section 6.1)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and LENGTHS.issubset(name for name, _ in scope["headers"]):
            detail = "Content-Length and Transfer-Encoding exclude each other"
            app = JSONResponse({"detail": detail}, 400, {"Connection": "close"})
        await app(scope, receive, send)


class KnownHost:
    """Guards a server that asks nobody who they are: its `Host` must be an address, localhost or one of `names`.

    Else the page of any site could read it in a developer's browser, once the site's name leads to 127.0.0.1 (DNS
    rebinding). An address leads nowhere else, so any will do. What is open to all, such as a health check, may be asked
    by other names: it tells nothing. Starlette's TrustedHostMiddleware knows no addresses, and does not say what is
    missing. `setting` is the one by which callers would be known.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], setting: str) -> None:
        self.app = app
        self.names = names
        self.refusal = f"ALLOWED_HOSTS must have the host's name, or {setting} be set"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["state"]["caller"] = ANONYMOUS
            hosts = Headers(scope=scope).getlist("host")  # none from a client of HTTP/1.0, which is no browser
            if not all(map(self._knows, hosts)) and not is_open(scope):
                refusal = JSONResponse({"detail": self.refusal}, 400)
                await (WebSocketClose() if scope["type"] == "websocket" else refusal)(scope, receive, send)
                return
            caller.set(ANONYMOUS.name)
        await self.app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        name = PORT.sub("", host).lower().removesuffix(".")
        if name in self.names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

"""Middleware for every request. It is pure ASGI: `BaseHTTPMiddleware` would stand between a stream and its client."""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Collection
from ipaddress import ip_address
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app.callers.caller import ANONYMOUS, Caller
from app.logs import caller, request_id

SAFE_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
# The page's own files are open too, because the tag that loads one can't send a key. No part of their path begins with
# a dot, so none is `..`: at this point a path is decoded, but not resolved.
OPEN_PATHS = re.compile(r"/|/health|/ready|/web(/\w[\w.-]*)+", re.ASCII)
HEALTH_PATHS = re.compile("/health|/ready")
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
        given = Headers(scope=scope).get("x-request-id", "")
        this = given if SAFE_REQUEST_ID.fullmatch(given) else uuid4().hex
        request_id.set(this)
        caller.set("-")  # a request that came while another was answered begins with the context of that one

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


class BearerKey:
    """Guards every path except the open ones, before a body is read. No WebSocket is open, whatever its path.

    Puts the caller into the request's state. What a client chooses, such as an idempotency key, counts for that caller
    alone.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["state"]["caller"] = ANONYMOUS
            if not _is_among(OPEN_PATHS, scope):
                scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
                if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode("latin-1"), self.key):
                    refusal = JSONResponse({"detail": "a valid API key is needed"}, 401, {"WWW-Authenticate": "Bearer"})
                    await (WebSocketClose() if scope["type"] == "websocket" else refusal)(scope, receive, send)
                    return
                scope["state"]["caller"] = Caller(hashlib.sha256(self.key).hexdigest()[:16])
                caller.set(scope["state"]["caller"].name)
        await self.app(scope, receive, send)


class KnownHost:
    """Guards a server without a key: its `Host` must be an address, localhost or one of `names`.

    Else the page of any site could read it in a developer's browser, once the site's name leads to 127.0.0.1 (DNS
    rebinding). An address leads nowhere else, so any will do. Health checks may use other names: they tell nothing.
    Starlette's TrustedHostMiddleware knows no addresses, and does not say what is missing.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["state"]["caller"] = ANONYMOUS
            hosts = Headers(scope=scope).getlist("host")  # none from a client of HTTP/1.0, which is no browser
            if not _is_among(HEALTH_PATHS, scope) and not all(map(self._knows, hosts)):
                refusal = JSONResponse({"detail": "ALLOWED_HOSTS must have the host's name, or API_KEY be set"}, 400)
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


def _is_among(paths: re.Pattern[str], scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["type"] == "http" and paths.fullmatch(path) is not None

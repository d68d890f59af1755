"""Middleware for every request. It is pure ASGI: `BaseHTTPMiddleware` would stand between a stream and its client."""

import hashlib
import re
import secrets
from collections.abc import Awaitable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app.logs import request_id

SAFE_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
# The page's own files are open too, because the tag that loads one can't send a key. No part of their path begins with
# a dot, so none is `..`: at this point a path is decoded, but not resolved.
OPEN_PATHS = re.compile(r"/|/health|/ready|/web(/\w[\w.-]*)+", re.ASCII)


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

        def send_with_id(message: Message) -> Awaitable[None]:  # no coroutine of its own: each token passes it
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = this
            return send(message)

        await self.app(scope, receive, send_with_id)


class BearerKey:
    """Guards every path except the open ones, before a body is read. With an empty key, all paths are open.

    Puts the caller into the request's state. What a client chooses, such as an idempotency key, counts for that caller
    alone.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["state"]["caller"] = "anonymous"
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if self.key and not OPEN_PATHS.fullmatch(path):
                scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
                if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode("latin-1"), self.key):
                    refusal = JSONResponse({"detail": "a valid API key is needed"}, 401, {"WWW-Authenticate": "Bearer"})
                    await (WebSocketClose() if scope["type"] == "websocket" else refusal)(scope, receive, send)
                    return
                scope["state"]["caller"] = hashlib.sha256(self.key).hexdigest()[:16]
        await self.app(scope, receive, send)

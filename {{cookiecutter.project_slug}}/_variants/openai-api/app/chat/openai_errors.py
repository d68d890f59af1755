"""Every error under `/v1/` as OpenAI's clients read it: `{"error": {"message", "type", "param", "code"}}`."""

import json
from collections.abc import Awaitable, Iterable
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    error: ErrorDetail


WAIT = ("rate_limit_error", "rate_limit_exceeded")
# By these two, clients know what to do: wait, or shorten the conversation. All else is the server's.
OPENAIS = {
    "model_busy": WAIT,
    "context_too_long": ("invalid_request_error", "context_length_exceeded"),
}


def answer_error(message: str, code: str) -> ErrorBody:
    """Why an answer is not whole. `code` is our own, and comes out as OpenAI's where there is one."""
    kind, name = OPENAIS.get(code, ("server_error", code))
    return ErrorBody(error=ErrorDetail(message=message, type=kind, code=name))


class ErrorShape:
    """Turns the application's own `{"detail": …}` into this, whoever answers: a route, the framework, other middleware.

    For these clients a malformed request is a 400, where FastAPI says 422.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or not path.startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        def send_unless_error(message: Message) -> Awaitable[None]:  # no coroutine of its own: each token passes it
            return hold(message) if held or message.get("status", 200) >= 400 else send(message)

        async def hold(message: Message) -> None:
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                start, *pieces = held
                body = _shaped(start, b"".join(piece.get("body", b"") for piece in pieces))
                await send(start)
                await send({"type": "http.response.body", "body": body, "more_body": False})

        await self.app(scope, receive, send_unless_error)


def _shaped(start: Message, body: bytes) -> bytes:
    """The body that is to be sent. Sets the status and the headers in `start`."""
    headers = MutableHeaders(scope=start)
    kind = headers.get("content-type", "").partition(";")[0]
    if kind == "text/plain":  # Starlette's 413 is
        detail = body.decode()
    elif kind == "application/json" and "detail" in (answer := json.loads(body)):
        detail = answer["detail"]
    else:
        return body
    if start["status"] == 422:
        start["status"] = 400
    body = ErrorBody(error=_error(start["status"], detail)).model_dump_json().encode()
    headers.update({"content-type": "application/json", "content-length": str(len(body))})
    return body


def _error(status: int, detail: Any) -> ErrorDetail:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    if not isinstance(detail, list):
        kind, code = {401: (kind, "invalid_api_key"), 429: WAIT}.get(status, (kind, None))
        return ErrorDetail(message=str(detail), type=kind, code=code)
    first = detail[0]  # of the fields that are wrong
    # Without the "body" before it. If the body is no JSON, this is a place in its text, and not a name.
    param = None if first["type"] == "json_invalid" else _name(first["loc"][1:]) or None
    message = first["msg"].removeprefix("Value error, ")
    return ErrorDetail(message=f"{param}: {message}" if param else message, type=kind, param=param)


def _name(steps: Iterable[str | int]) -> str:
    """`messages[0].content`, as OpenAI names a field."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")

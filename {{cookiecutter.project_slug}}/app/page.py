"""Serves the chat page: the files of `app/web/` with headers that forbid the page to load anything else."""

import hashlib
import mimetypes
from html import escape
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Scope

from app.application import App
from app.callers.guard import open_to_all

WEB = Path(__file__).parent / "web"
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",  # scripts handle the forms: the browser itself never sends one
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",  # the browser throws where text would become HTML, as in `innerHTML`
}
HEADERS = {
    "Content-Security-Policy": "; ".join(map(" ".join, POLICY.items())),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a browser asks whether a file has changed: a 304 if not
}
mimetypes.add_type("text/javascript", ".js")  # some Windows registries say text/plain: with `nosniff` it would not run


class Web(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def install(app: App) -> None:
    web = Web(directory=WEB)
    heartbeat = f'data-heartbeat-seconds="{app.settings.heartbeat_seconds:g}"'  # the page knows a lost connection by it
    name = f">{escape(app.settings.app_name)}</"

    @open_to_all
    def page(request: Request) -> Response:
        text = (WEB / "index.html").read_text("utf-8")
        text = text.replace('data-heartbeat-seconds="10"', heartbeat).replace(">Chat</", name)
        response: Response = HTMLResponse(text)
        response.headers["ETag"] = f'"{hashlib.sha256(text.encode()).hexdigest()}"'
        if web.is_not_modified(response.headers, request.headers):
            response = NotModifiedResponse(response.headers)
        response.headers.update(HEADERS)
        return response

    app.add_route("/", page, methods=["GET"], include_in_schema=False)
    app.mount("/web", open_to_all(web))  # the tag that loads a file can't send a token

"""Serves the chat page: the files of `app/web/` with headers that forbid the page to load anything else."""

import mimetypes
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

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


def install(app: FastAPI) -> None:
    web = Web(directory=WEB)

    async def page(request: Request) -> Response:
        return await web.get_response("index.html", request.scope)

    app.add_route("/", page, methods=["GET"], include_in_schema=False)
    app.mount("/web", web)

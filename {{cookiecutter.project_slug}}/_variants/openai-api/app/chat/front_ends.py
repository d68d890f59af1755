"""The routes by which clients reach the chat."""

from starlette.middleware import Middleware

from app.application import App
from app.chat import openai_api, routes
from app.chat.openai_errors import ErrorShape


def install(app: App) -> None:
    app.include_router(routes.router)
    app.include_router(openai_api.router)
    # Outside of the innermost, which asks who calls: its refusals need the shape too.
    app.outside.insert(len(app.outside) - 1, Middleware(ErrorShape))

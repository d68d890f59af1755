"""By which routes the chat can be reached."""

from starlette.middleware import Middleware

from app.chat import openai_api, routes
from app.chat.openai_errors import ErrorShape
from app.middleware import App


def install(app: App) -> None:
    app.include_router(routes.router)
    app.include_router(openai_api.router)
    app.outer.insert(len(app.outer) - 1, Middleware(ErrorShape))  # what the innermost of them refuses has it too

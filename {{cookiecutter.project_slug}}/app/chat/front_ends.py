"""The routes by which clients reach the chat."""

from app.application import App
from app.chat import routes


def install(app: App) -> None:
    app.include_router(routes.router)

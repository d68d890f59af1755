"""The routes by which clients reach the chat."""

from app.application import App
from app.chat import ai_sdk, routes


def install(app: App) -> None:
    app.include_router(routes.router)
    app.include_router(ai_sdk.router)

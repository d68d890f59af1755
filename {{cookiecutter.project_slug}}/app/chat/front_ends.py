"""By which routes the chat can be reached."""

from app.application import App
from app.chat import routes


def install(app: App) -> None:
    app.include_router(routes.router)

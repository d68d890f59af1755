"""By which routes the chat can be reached."""

from app.chat import routes
from app.middleware import App


def install(app: App) -> None:
    app.include_router(routes.router)

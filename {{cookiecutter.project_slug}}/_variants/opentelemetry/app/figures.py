"""What is so at this moment, as a room of the application: what runs, who reads, which jobs wait."""

from app.application import App, Room


def figures() -> Room:
    def join(app: App) -> None:
        pass

    return join

"""What the application is made of: the parts of this service, and what FastAPI itself tells of requests."""

from fastapi.telemetry import TelemetryConfig

from app.application import Room
from app.chat.room import chat
from app.jobs.room import jobs
from app.limits.room import limits


def all_rooms() -> list[Room]:
    """One line for each. Each reads its own settings from the environment. They are opened in this order, so one may
    use what those above it share."""
    return [
        jobs(),
        chat(),
        limits(),  # last, for it counts: whoever a limit before it refuses does not count
    ]


def telemetry_of_fastapi() -> TelemetryConfig:
    """It tells nothing: its spans would show the query of a path, and that may hold a question."""
    return {"tracing": False, "metrics": False, "logs": False}

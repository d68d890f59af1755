"""What the application is made of: the parts of this service, and what FastAPI itself tells of requests."""

from collections.abc import MutableMapping
from typing import Any

from fastapi.telemetry import TelemetryConfig

from app.application import Room
from app.chat.room import chat
from app.figures import figures
from app.jobs.room import jobs
from app.limits.room import limits
from app.otel import export

PROBES = {"/health", "/ready", "/metrics"}


def all_rooms() -> list[Room]:
    """One line for each. Each reads its own settings from the environment. They are opened in this order, so one may
    use what those above it share."""
    return [
        jobs(),
        chat(),
        figures(),
        limits(),  # last, for it counts: whoever a limit before it refuses does not count
    ]


def telemetry_of_fastapi() -> TelemetryConfig:
    """A span and a duration for each request but those of probes. Its log records would hold the text of exceptions."""
    export.set_up()  # a server with wrong settings does not start
    return {"logs": False, "operation_spans": False, "auto_configure": False, "exclude": _is_a_probe}


def _is_a_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in PROBES

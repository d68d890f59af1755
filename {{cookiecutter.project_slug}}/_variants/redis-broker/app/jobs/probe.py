"""`python -m app.worker health`, for a container's probe. It imports little, so that it takes little CPU."""

import socket

from app.jobs.plain_redis import Away, try_to_write
from app.jobs.settings import JobSettings
from app.jobs.signs import live_workers


def health() -> str | None:
    """What is wrong with this host's workers, or None. It is None also when Redis is away, or refuses what they write,
    for a restart of the workers would not cure that."""
    settings = JobSettings.read()
    try:
        if live_workers(settings, socket.gethostname()):
            return None
        try_to_write(settings)
    except Away as away:
        print(f"unknown: Redis: {away.__cause__}")
        return None
    return f"no worker of {socket.gethostname()} is alive"

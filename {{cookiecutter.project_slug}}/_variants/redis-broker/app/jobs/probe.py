"""`python -m app.worker health`, for a container's probe. It imports little, so that it takes little CPU."""

import socket

from app.jobs.plain_redis import Away, settings
from app.jobs.signs import live_workers


def health() -> str | None:
    """What is wrong with this host's workers, or None. It is None also when Redis is away, for a restart of the workers
    would not cure that."""
    try:
        alive = live_workers(settings(), socket.gethostname())
    except Away:
        print("unknown: Redis does not answer")
        return None
    return None if alive else f"no worker of {socket.gethostname()} is alive"

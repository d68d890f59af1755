"""What Celery is told of Redis."""

from typing import Any

from app.jobs.connection import ANSWER_SECONDS
from app.jobs.settings import JobSettings

# What a worker had fetched and not begun when it died comes back after this, in seconds; by default, after an hour. It
# isn't needed, for the relay is faster, and does no harm.
VISIBILITY_TIMEOUT = 30
# Of the connection over which ids are handed over: it may not wait for ever.
SENDER_OPTIONS = {"socket_timeout": ANSWER_SECONDS}


def celery_settings(settings: JobSettings) -> dict[str, Any]:
    options = {"visibility_timeout": VISIBILITY_TIMEOUT, "socket_connect_timeout": ANSWER_SECONDS}
    return {
        "broker_url": str(settings.redis_url),
        "broker_transport_options": options,
        # Else each busy process holds one more message back, though another may have nothing to do.
        "worker_disable_prefetch": True,
    }

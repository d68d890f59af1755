"""What Celery is told of Redis."""

from typing import Any

from app.jobs.settings import JobSettings
from app.redis_client import ANSWER_SECONDS

# In seconds; by default an hour. After this, a message comes back that a worker had fetched, but had not begun when it
# died. It isn't needed, for the relay is faster, and does no harm.
VISIBILITY_TIMEOUT = 30
# For the connection over which ids are handed over: it must not wait for ever.
SENDER_OPTIONS = {"socket_timeout": ANSWER_SECONDS}


def celery_settings(settings: JobSettings) -> dict[str, Any]:
    options = {"visibility_timeout": VISIBILITY_TIMEOUT, "socket_connect_timeout": ANSWER_SECONDS}
    # By default kombu looks at no certificate, where redis-py does. What the URL says behind its ? wins.
    tls = {"ssl_cert_reqs": "required"} if settings.redis_url.scheme == "rediss" else None
    return {
        "broker_url": str(settings.redis_url),
        "broker_use_ssl": tls,
        "broker_transport_options": options,
        # Without this, each busy process holds one more message, though another process may be idle.
        "worker_disable_prefetch": True,
    }

"""What Celery is told of RabbitMQ. It is little: by default its queues are durable, and its messages persistent."""

from typing import Any

from app.jobs.settings import JobSettings
from app.redis_client import ANSWER_SECONDS

# For the connection over which ids are handed over: it must not wait for ever.
SENDER_OPTIONS = {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}


def celery_settings(settings: JobSettings) -> dict[str, Any]:
    return {"broker_url": str(settings.broker_url)}

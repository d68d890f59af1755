"""What Celery is told of RabbitMQ. It is little: by default its queues are durable, and its messages persistent."""

from typing import Any

from app.jobs.settings import JobSettings
from app.redis_client import ANSWER_SECONDS

# For the connection over which ids are handed over: it must not wait for ever.
SENDER_OPTIONS = {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}


def celery_settings(settings: JobSettings) -> dict[str, Any]:
    url = settings.broker_url
    # Without its host's name, py-amqp would take any certificate that the system trusts, whoever shows it.
    tls = {"server_hostname": url.host} if url.scheme == "amqps" else None
    return {"broker_url": str(url), "broker_use_ssl": tls}

"""RQ's queue, and which workers listen to it: for the backend that fills it, and for the workers themselves."""

import time
from datetime import UTC

from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from app.jobs.settings import JobSettings
from app.jobs.signs import WORKER_SILENT_SECONDS

WORKER_TTL_SECONDS = 30  # an idle worker shows a sign of life every half of it


def rq_queue(settings: JobSettings, connection: Redis) -> Queue:
    # JSON, for RQ's default is pickle: who can write to Redis could run code in a worker.
    return Queue(settings.queue_name, connection=connection, serializer=JSONSerializer)


def live_workers(queue: Queue) -> int:
    """How many workers of the queue, on any host, have shown a sign of life of late."""
    heartbeats = [worker.last_heartbeat for worker in Worker.all(queue=queue)]
    signs = [sign.replace(tzinfo=UTC) for sign in heartbeats if sign]
    return sum(time.time() - sign.timestamp() < WORKER_SILENT_SECONDS for sign in signs)

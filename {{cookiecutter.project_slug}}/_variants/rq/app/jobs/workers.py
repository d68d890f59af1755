"""RQ's queue, and which workers listen to it: for the backend that fills it, and for the workers themselves."""

import time
from datetime import UTC

from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from app.jobs.settings import JobSettings

WORKER_TTL_SECONDS = 30  # an idle worker shows a sign of life every half of it
WORKER_SILENT_SECONDS = 90  # a busy one every 30 s


def rq_queue(settings: JobSettings, connection: Redis) -> Queue:
    # JSON, for RQ's default is pickle: who can write to Redis could run code in a worker.
    return Queue(settings.queue_name, connection=connection, serializer=JSONSerializer)


def live_workers(queue: Queue, hostname: str | None = None) -> int:
    """How many workers of the queue, on that host or on any, have shown a sign of life of late."""
    # By the name: RQ forgets the host of a worker that Redis has forgotten during an outage.
    workers = [
        worker for worker in Worker.all(queue=queue) if worker.name.startswith(f"{hostname}." if hostname else "")
    ]
    signs = [worker.last_heartbeat.replace(tzinfo=UTC) for worker in workers if worker.last_heartbeat]
    return sum(time.time() - sign.timestamp() < WORKER_SILENT_SECONDS for sign in signs)

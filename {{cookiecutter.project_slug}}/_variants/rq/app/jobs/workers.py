"""RQ's queue, and which workers listen to it: for the backend that fills it, and for the workers themselves."""

import logging
from collections.abc import Mapping
from typing import Any

import redis
from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from app.jobs.messages import is_job_id
from app.jobs.settings import JobSettings
from app.jobs.signs import WORKERS_KEY

log = logging.getLogger(__name__)
RUN_JOB = "app.worker.run_job"
# What RQ needs of a message. The other fields name code to import, addresses to call, and jobs to enqueue.
FIELDS = (
    *("data", "origin", "description", "status", "worker_name", "timeout", "result_ttl", "failure_ttl"),
    *("created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat"),
)
# An idle worker shows a sign of life every half of it, and a busy one every 30 s. Redis forgets a worker 90 s after its
# last one.
WORKER_TTL_SECONDS = 30


class Message(Job):
    """RQ's job, of which only the id of ours is believed. RQ imports and calls whatever a message names, as a function
    or a callback: who can write to Redis could run code in a worker."""

    def refresh(self) -> None:
        """Raises NoSuchJobError for what is no message of this service. RQ drops it then, and would end its worker for
        any other error."""
        try:
            super().refresh()  # type: ignore[no-untyped-call]
            right = (self.func_name, self.instance, self.kwargs) == (RUN_JOB, None, {})
            right = right and len(self.args) == 1 and is_job_id(self.args[0])
        except NoSuchJobError:
            raise
        except redis.RedisError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            right = False
        except Exception:
            right = False
        if not right:
            log.warning("RQ's job %.100r is dropped: it is no message of this service", self.id)
            raise NoSuchJobError("no message of this service")

    def restore(self, raw_data: Mapping[bytes, bytes]) -> Any:
        return super().restore({name: value for name, value in raw_data.items() if name.decode() in FIELDS})


def rq_queue(settings: JobSettings, connection: Redis) -> Queue:
    # JSON, for RQ's default is pickle: who can write to Redis could run code in a worker.
    return Queue(settings.queue_name, connection=connection, serializer=JSONSerializer, job_class=Message)


def live_workers(queue: Queue) -> int:
    """How many workers of the queue, on any host, Redis has not forgotten."""
    # Not `Worker.all`: that fails for all if it can't read one of them. And by the clock of Redis: RQ notes signs of
    # life by that of the worker's machine.
    return sum(queue.connection.ttl(key) > 0 for key in queue.connection.smembers(WORKERS_KEY.format(queue.name)))

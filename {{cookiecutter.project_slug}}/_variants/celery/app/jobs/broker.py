"""The broker, as Celery speaks to it."""

import threading
from collections.abc import Sequence
from typing import Any

from celery import Celery

from app.jobs.settings import JobSettings
from app.jobs.transport import SENDER_OPTIONS, celery_settings
from app.redis_client import ANSWER_SECONDS

RUN_JOB = "app.worker.run_job"
_closing = threading.Lock()  # to close, kombu may change the timeout of all new sockets, and put back what it found


def celery_app(settings: JobSettings) -> Celery:
    app = Celery(settings.queue_name)
    app.conf.update(
        task_default_queue=settings.queue_name,
        task_ignore_result=True,  # the record has it
        # `task_acks_late` is off: a message is acknowledged when its job begins. The relay repeats what dies with a
        # worker, and no broker hands a job to another worker because it takes long.
        worker_prefetch_multiplier=1,
        # It is about `task_acks_late` alone. Unset, Celery warns of its default at each lost connection.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_consumer="app.jobs.consumer:Consumer",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker ends after 50 minutes without its broker
        **celery_settings(settings),
    )
    return app


class Sender:
    """A connection to the broker, for one thread at a time. A call that fails raises, and the next one connects
    anew."""

    def __init__(self, settings: JobSettings) -> None:
        self._celery = celery_app(settings)
        self._queue = self._celery.amqp.queues[settings.queue_name]
        self._connection: Any = None

    def waiting(self) -> int:
        """How many messages are in the queue that no worker has fetched."""
        try:
            # Not `passive`: that raises for an empty queue, if it is in Redis.
            return int(self._channel().queue_declare(self._queue.name, durable=True, auto_delete=False).message_count)
        except BaseException:
            self.close()
            raise

    def send(self, messages: Sequence[tuple[str, int]]) -> None:
        """Each message is a job's id, and the seconds after which a process that still runs the job is killed."""
        try:
            producer = self._celery.amqp.Producer(self._channel())
            for job_id, seconds in messages:
                self._celery.send_task(RUN_JOB, [job_id], producer=producer, retry=False, time_limit=seconds)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with _closing:
                connection.collect(ANSWER_SECONDS)

    def _channel(self) -> Any:
        if self._connection is None:
            self._connection = self._celery.connection_for_write(
                connect_timeout=ANSWER_SECONDS, transport_options=SENDER_OPTIONS
            )
            self._queue(self._connection.default_channel).declare()
        return self._connection.default_channel

"""What a Celery worker gets its messages by, for as long as it lives: over many connections, if need be."""

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

from app.jobs.broker import RUN_JOB
from app.jobs.messages import is_job_id

log = logging.getLogger(__name__)
AGAIN_SECONDS = 1.0
# What Celery needs of a message. The others name tasks to send next, or times to wait for.
HEADERS = ("lang", "task", "id", "root_id", "timelimit", "argsrepr", "kwargsrepr", "origin", "ignore_result")


class Consumer(consumer.Consumer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # After any of these, Celery connects again. By default it ends the worker for a message that kombu can't read,
        # or when Redis refuses what it is asked.
        self.connection_errors = (Exception,)
        self._refused = ""  # the words of the broker, the last time

    def create_task_handler(self, *arguments: Any) -> Callable[[Any], None]:
        """Runs jobs, and rejects all else. Whoever can write to the broker can send anything: other tasks that Celery
        brings, tasks to be sent by this worker, and what ends it each time that it is delivered."""
        handle = super().create_task_handler(*arguments)

        def received(message: Any) -> None:
            if _says_which_job(message):
                message.headers = {name: value for name, value in message.headers.items() if name in HEADERS}
                handle(message)
            else:
                log.warning("a message is dropped: it is none of this service: %.200r", message.headers)
                message.reject_log_error(log, self.connection_errors)

        return received

    def on_ready(self) -> None:
        """The broker has granted all, and messages come."""
        super().on_ready()
        self._refused = ""

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Celery says the same five times a second while Redis can be reached, and refuses."""
        if str(exc) != self._refused:
            super().on_connection_error_before_connected(exc)
        self._refused = str(exc)
        time.sleep(AGAIN_SECONDS)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery closes what is left of a lost connection, and connects again.

        It closes it twice. While the broker is away, kombu 5.7 may give up the first time halfway. The second time it
        may raise AttributeError if a message was not acknowledged yet, as in kombu's issue 582. Celery expects nothing
        but errors of connections there, and would end the worker. Nothing is lost here: Celery has let go of the
        connection before, and the relay repeats the message.

        If the broker refuses each time, as when the queue was declared with other arguments, Celery would be at it
        again at once.
        """
        if str(exc) == self._refused:
            time.sleep(AGAIN_SECONDS)
        self._refused = str(exc)
        try:
            super().on_connection_error_after_connected(exc)
        except Exception:
            log.warning("a lost connection could not be closed", exc_info=True)


def _says_which_job(message: Any) -> bool:
    try:
        (job_id,), keywords, embedded = message.decode()
        seconds, soft = message.headers["timelimit"]
        return (
            message.headers["task"] == RUN_JOB
            and isinstance(message.headers["id"], str)
            and is_job_id(job_id)
            and not keywords
            and not any(embedded.values())
            and isinstance(seconds, int)
            and soft is None
        )
    except Exception:
        return False

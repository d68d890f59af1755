"""What a Celery worker gets its messages by, for as long as it lives: over many connections, if need be."""

import logging

from celery.worker import consumer

log = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery closes what is left of a lost connection, and connects again.

        It closes it twice. While the broker is away, kombu 5.7 may give up the first time halfway. The second time it
        may raise AttributeError if a message was not acknowledged yet, as in kombu's issue 582. Celery expects nothing
        but errors of connections there, and would end the worker. Nothing is lost here: Celery has let go of the
        connection before, and the relay repeats the message.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except Exception:
            log.warning("a lost connection could not be closed", exc_info=True)

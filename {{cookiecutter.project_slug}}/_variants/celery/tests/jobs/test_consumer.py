from typing import Any, NoReturn

from app.jobs.broker import celery_app
from app.jobs.settings import JobSettings


def test_a_worker_outlives_a_lost_connection_that_can_not_be_closed(job_settings: JobSettings) -> None:
    """The loop in which it reads is replaced by one that loses its first connection."""
    connections: list[Any] = []

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    def loop(consumer: Any, connection: Any, *_: Any) -> None:
        connections.append(connection)
        if len(connections) == 1:
            connection.close = fail
            raise ConnectionResetError
        consumer.stop()

    worker: Any = celery_app(job_settings).WorkController(without_gossip=True, without_mingle=True)
    worker.consumer.loop = loop
    worker.consumer.start()
    worker.consumer.shutdown()
    lost, current = connections
    assert not lost.connected
    assert current is not lost

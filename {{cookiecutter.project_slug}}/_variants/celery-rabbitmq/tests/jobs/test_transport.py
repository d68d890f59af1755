import socket
from threading import Thread

import pytest
from kombu.exceptions import OperationalError
from pydantic import AmqpDsn

from app.jobs.broker import Sender
from app.jobs.settings import JobSettings


def test_rabbitmq_s_certificate_must_have_the_name_of_its_host(job_settings: JobSettings) -> None:
    """py-amqp looks at that name if it asks for the name too, as a server sees."""
    heard: list[bytes] = []

    def hear(server: socket.socket) -> None:
        connection, _ = server.accept()
        with server, connection:
            heard.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = AmqpDsn(f"amqps://guest:guest@localhost:{server.getsockname()[1]}")
        hearing = Thread(target=hear, args=(server,), daemon=True)
        hearing.start()
        sender = Sender(job_settings.model_copy(update={"broker_url": url}))
        with pytest.raises(OperationalError):
            sender.waiting()
        hearing.join(10)
    assert b"localhost" in heard[0]

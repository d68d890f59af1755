"""The broker, as Dramatiq speaks to it."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dramatiq import Message
from dramatiq.encoder import JSONEncoder, MessageData

from app.jobs.settings import JobSettings
from app.jobs.transport import OPTIONS_OF_BROKER, close, sender_broker, waiting

RUN_JOB = "run_job"
OPTIONS: dict[str, type] = {"time_limit": int, **OPTIONS_OF_BROKER}


class Encoder(JSONEncoder):
    """Messages as workers read them. Dramatiq ends a thread, or the consumer of a queue, for one that it can't read, or
    that names another queue. So whatever comes becomes a message to this queue's one actor."""

    def __init__(self, queue_name: str) -> None:
        self._queue = queue_name

    def decode(self, data: bytes) -> MessageData:
        found: Any = {}
        with suppress(Exception):
            found = super().decode(data)
        found = found if isinstance(found, dict) else {}
        options = found.get("options")
        options = options if isinstance(options, dict) else {}
        args = found.get("args")
        return {
            "queue_name": self._queue,
            "actor_name": RUN_JOB,
            "args": args if isinstance(args, list) and len(args) == 1 else [args],  # a list is no job's id
            "kwargs": {},
            "options": {name: options[name] for name, kind in OPTIONS.items() if isinstance(options.get(name), kind)},
            "message_id": str(found.get("message_id")),
            "message_timestamp": 0,
        }


class Sender:
    """A connection to the broker, for one thread at a time. A call that fails raises, and the next one connects
    anew."""

    def __init__(self, settings: JobSettings) -> None:
        self._broker = sender_broker(settings)
        self._queue = settings.queue_name

    def waiting(self) -> int:
        """How many messages are in the queue that no worker has fetched."""
        try:
            return waiting(self._broker, self._queue)
        except BaseException:
            self.close()
            raise

    def send(self, messages: Sequence[tuple[str, int]]) -> None:
        """Each message is a job's id, and the seconds after which a thread that still runs the job is interrupted."""
        try:
            for job_id, seconds in messages:
                options = {"time_limit": seconds * 1000}
                self._broker.enqueue(Message(self._queue, RUN_JOB, (job_id,), {}, options))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        close(self._broker)

"""The broker, as Dramatiq speaks to it."""

from collections.abc import Sequence

from dramatiq import Message

from app.jobs.settings import JobSettings
from app.jobs.transport import close, sender_broker, waiting

RUN_JOB = "run_job"


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

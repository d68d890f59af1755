from uuid import uuid4

from app.jobs.broker import RUN_JOB, Sender
from app.jobs.settings import JobSettings
from app.jobs.transport import worker_broker


def test_a_message_says_which_job_and_how_long_it_may_take(job_settings: JobSettings) -> None:
    settings = job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})
    sender = Sender(settings)
    sender.send([("j1", 330), ("j2", 30)])
    broker = worker_broker(settings, [])
    broker.declare_queue(settings.queue_name)
    consumer = broker.consume(settings.queue_name, prefetch=2, timeout=100)
    for job_id, seconds in (("j1", 330), ("j2", 30)):
        while (message := next(consumer)) is None:
            pass
        assert (message.actor_name, message.args) == (RUN_JOB, (job_id,))
        assert message.options["time_limit"] == seconds * 1000
        consumer.ack(message)
    consumer.close()
    broker.close()
    sender.close()

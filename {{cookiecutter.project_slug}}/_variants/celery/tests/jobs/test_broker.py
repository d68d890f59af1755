from typing import Any
from uuid import uuid4

from app.jobs.broker import RUN_JOB, Sender, celery_app
from app.jobs.settings import JobSettings


def test_a_message_is_json_and_says_which_job_and_how_long_it_may_take(job_settings: JobSettings) -> None:
    settings = job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})
    sender = Sender(settings)
    sender.send([("j1", 330), ("j2", 30)])
    celery = celery_app(settings)
    with celery.connection_for_read() as connection:
        queue: Any = celery.amqp.queues[settings.queue_name](connection.default_channel)
        for job_id, seconds in (("j1", 330), ("j2", 30)):
            while (message := queue.get(no_ack=True)) is None:
                pass
            assert message.content_type == "application/json"
            assert message.payload[0] == [job_id]
            assert (message.headers["task"], message.headers["timelimit"]) == (RUN_JOB, [seconds, None])
    sender.close()


def test_a_worker_waits_for_its_broker_however_long_that_is_away(job_settings: JobSettings) -> None:
    conf = celery_app(job_settings).conf
    assert conf.broker_connection_retry_on_startup
    assert conf.broker_connection_max_retries is None


def test_nothing_but_json_is_accepted(job_settings: JobSettings) -> None:
    assert set(celery_app(job_settings).conf.accept_content) == {"json"}

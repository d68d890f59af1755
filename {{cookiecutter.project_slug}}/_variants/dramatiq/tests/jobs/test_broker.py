import json
from uuid import uuid4

import pytest
from dramatiq import Message, get_encoder, set_encoder

from app.jobs.broker import RUN_JOB, Encoder, Sender
from app.jobs.messages import is_job_id
from app.jobs.settings import JobSettings
from app.jobs.transport import OPTIONS_OF_BROKER, worker_broker


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


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"args": "text", "options": "text"}',
        json.dumps({"queue_name": 5, "actor_name": "os.system", "args": ["j"], "kwargs": {"more": 1}}).encode(),
        json.dumps({"args": ["j"], "options": {"eta": 1e30, "pipe_target": {}, "time_limit": "soon"}}).encode(),
        b"[" * 100_000,
    ],
    ids=lambda data: str(data)[:60],
)
def test_whatever_a_message_names_it_is_one_to_the_only_actor(data: bytes) -> None:
    """Dramatiq would end a thread, or stop reading for seconds."""
    before = get_encoder()
    set_encoder(Encoder("q"))
    try:
        message: Message[None] = Message.decode(data)
    finally:
        set_encoder(before)
    assert (message.queue_name, message.actor_name, message.kwargs, message.options) == ("q", RUN_JOB, {}, {})
    (argument,) = message.args
    assert argument == "j" or not is_job_id(argument)


def test_a_message_that_was_sent_is_read_as_it_was() -> None:
    options = {"time_limit": 330_000, **dict.fromkeys(OPTIONS_OF_BROKER, "i")}
    sent: Message[None] = Message("q", RUN_JOB, ("j",), {}, options, message_id="i", message_timestamp=0)
    assert Message(**Encoder("q").decode(sent.encode()) | {"args": ("j",)}) == sent

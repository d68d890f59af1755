"""What a served project tells by OTLP: its figures are those that the test has counted itself, its traces lead from a
request to all that comes of it, in whichever process, and nothing of what was asked and answered is in them."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import pytest
from crashing import LEASE_SECONDS, Service, Web, until
from model_services import KEY
from otlp import Receiver, Span, receiving
from rendering import Project, named, pairwise, varied
from running import services, serving
from telling import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    SECRET,
    Model,
    Traceparent,
    ask,
    new_trace,
    read_again,
    read_some,
    reason,
    serving_model,
)

# What a project tells, its own tests look at too, and those of one project always run.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kills whole trees of processes, by /proc"),
]
DURATION = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
PER_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
TOKENS = "gen_ai.client.token.usage"
WHOLE, LEFT, FAILED, AGAIN = 6, 3, 1, 2
MANY = 200  # pieces of one answer
FEW = 3  # of each other


def renders(*queues: str) -> list[Any]:
    """Parameters: one for each, and one of `varied` where it has one."""
    found = []
    for queue in queues:
        several = [each for each in [*varied(), *pairwise()] if each["telemetry"] != "none"]
        answers = next(each for each in several if each["queue_backend"] == queue)
        found.append(pytest.param(answers, marks=pytest.mark.xdist_group(f"tells-{queue}"), id=named(answers)))
    return found


def counted(receiver: Receiver, metric: str, attribute: str) -> dict[str, int]:
    """How many there were, in all processes, by that attribute."""
    found = Counter[str]()
    for point in receiver.points(metric):
        found[str(point.attributes.get(attribute))] += int(point.count or point.value)
    return dict(found)


def of_trace(receiver: Receiver, trace: Traceparent) -> list[Span]:
    return [span for span in receiver.spans() if span.trace_id == trace.trace_id]


class Told(NamedTuple):
    """What came of ten answers."""

    receiver: Receiver
    model: Model
    asked: Traceparent
    """The trace that one of them was asked in."""
    again: list[Traceparent]
    """Those in which it was read again."""


@pytest.fixture(scope="module", params=renders("rq", "none"))
def told(request: pytest.FixtureRequest, render: Callable[..., Project]) -> Iterator[Told]:
    """Of ten answers, six are read to their end, and one of these three times. The readers of three leave, and one
    fails."""
    project = render(**request.param)
    project.sync()
    asked, again = new_trace(), [new_trace() for _ in range(AGAIN)]
    with services(project) as env, receiving() as receiver, serving_model() as model:
        settings = model.settings(project) | receiver.env | {"ANSWER_GRACE_SECONDS": "0"}
        with serving(project, env, **settings) as server:
            first = ask(server, pieces=MANY, trace=asked)
            ends = [reason(response) for response in (first, *(ask(server) for _ in range(WHOLE - 1)))]
            ends += [reason(read_again(server, first, trace=trace)) for trace in again]
            assert ends == ["end"] * (WHOLE + AGAIN)
            for _ in range(LEFT):
                with closing(ask(server, then="wait")) as response:
                    read_some(response)
            assert reason(ask(server, then="fail")) == "error"
            assert reason(server.request("GET", f"/stream?text={SECRET}")) == "end"
            receiver.until(lambda: receiver.total(DURATION) >= WHOLE + LEFT + FAILED, "a figure of each answer")
            receiver.until_exported()
            server.process.stop()
        yield Told(receiver, model, asked, again)


def test_each_answer_is_counted_once_by_how_it_ended(told: Told) -> None:
    """However many have read it; and its tokens are those that the model's service says."""
    receiver = told.receiver
    assert counted(receiver, DURATION, "chat.answer.outcome") == {"end": WHOLE, "abandoned": LEFT, "error": FAILED}
    assert counted(receiver, DURATION, "error.type") == {"None": WHOLE + LEFT, "model_error": FAILED}
    assert receiver.total(FIRST_CHUNK) == WHOLE + LEFT
    tokens = {
        kind: sum(point.value for point in receiver.points(TOKENS, gen_ai__token__type=kind))
        for kind in ("input", "output")
    }
    assert tokens == {"input": WHOLE * INPUT_TOKENS, "output": WHOLE * OUTPUT_TOKENS}


def test_each_reader_is_counted_once_by_how_their_reading_ended(told: Told) -> None:
    """The words of /stream, and what failed, have a reader each, who read to the end."""
    receiver = told.receiver
    assert counted(receiver, "chat.readers.ended", "outcome") == {"end": WHOLE + AGAIN + FAILED + 1, "left": LEFT}
    assert receiver.total("chat.readers.came_back") == AGAIN
    assert {point.value for point in receiver.points("chat.streams.open")} == {0}
    assert {point.value for point in receiver.points("chat.answers.running")} == {0}


def test_one_trace_leads_from_a_browsers_request_to_the_models_service(told: Told) -> None:
    """A span of the request and one of the answer's run, which is the one that the service is told."""
    of_request, run = sorted(of_trace(told.receiver, told.asked), key=lambda span: span.kind, reverse=True)
    assert (of_request.kind, of_request.parent_id) == ("SERVER", told.asked.span_id)
    assert (run.kind, run.parent_id) == ("CLIENT", of_request.span_id)
    assert run.name.startswith("chat ")
    of_it = [each for each in told.model.traceparents if told.asked.trace_id in each]
    assert of_it == [str(Traceparent(told.asked.trace_id, run.span_id))]


def test_to_read_an_answer_again_is_a_request_and_no_run(told: Told) -> None:
    for trace in told.again:
        (span,) = of_trace(told.receiver, trace)
        assert (span.kind, span.parent_id) == ("SERVER", trace.span_id)


def test_only_what_has_failed_is_an_error(told: Told) -> None:
    """Who leaves makes none, neither of the request nor of the answer."""
    failed = [span for span in told.receiver.spans() if span.status == "ERROR"]
    assert [(span.kind, span.attributes.get("error.type")) for span in failed] == [("CLIENT", "model_error")]


def test_no_span_is_made_for_a_token_nor_for_a_look(told: Told) -> None:
    """Two for each answer, one of them the request's; and one for each request that only reads."""
    assert len(told.receiver.spans()) == 2 * (WHOLE + LEFT + FAILED) + AGAIN + 1


def test_nothing_of_questions_answers_and_keys_is_told(told: Told) -> None:
    assert told.receiver.received
    assert SECRET.encode() not in told.receiver.received
    assert KEY.encode() not in told.receiver.received


class Worked(NamedTuple):
    """What came of five jobs: three that succeed, one that fails twice before, and one whose worker is killed."""

    receiver: Receiver
    traces: dict[str, Traceparent]
    """In which each task's were accepted."""
    killed: bool


@pytest.fixture(scope="module", params=renders("rq", "celery-redis", "dramatiq-rabbitmq", "none"))
def worked(
    request: pytest.FixtureRequest, render: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worked]:
    """Nobody takes them at first, and all are seen to wait. Without a queue nobody can be killed but all at once."""
    project = render(**request.param)
    project.sync()
    folder = tmp_path_factory.mktemp("worked")
    held, traces = folder / "held", {task: new_trace() for task in ("last", "fail_twice", "hold")}
    held.touch()
    with services(project) as env, receiving() as receiver:
        service = Service(project, folder, env | receiver.env)
        with ExitStack() as stack:
            web = stack.enter_context(service.web())
            accepted = [accept(web, "last", traces) for _ in range(3)]
            if durable := request.param["queue_backend"] != "none":
                until(lambda: oldest_due(receiver) > 1.5 * LEASE_SECONDS, "the oldest is due for longer than a lease")
                assert counted(receiver, "jobs.count", "status") == {"queued": 3, "running": 0, "retrying": 0}
                workers = stack.enter_context(service.workers(supervised=True))
                accepted.append(accept(web, "hold", traces, file=str(held)))
                service.journal.wait("begin", jobs=4)
                # What a process has not sent goes with it.
                receiver.until(lambda: ended(receiver, spans=3, attempts=3), "what is told of those that have ended")
                workers.kill(workers.processes[0])
                held.unlink()
            accepted.append(accept(web, "fail_twice", traces))
            web.all_succeed(accepted)
            spans = 3 + 3 + durable
            receiver.until(lambda: ended(receiver, spans, attempts=spans + durable), "what is told of all attempts")
            receiver.until_exported()
        yield Worked(receiver, traces, durable)


def accept(web: Web, task: str, traces: dict[str, Traceparent], **probe: str) -> str:
    response = web.client.post(f"/tasks/{task}", json=probe, headers={"traceparent": str(traces[task])})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def oldest_due(receiver: Receiver) -> float:
    return max((point.value for point in receiver.points("jobs.oldest_due.age")), default=0.0)


def ended(receiver: Receiver, spans: int, attempts: int) -> bool:
    """Whether so many are told of at least."""
    made = [span for span in receiver.spans() if span.kind == "CONSUMER"]
    return len(made) >= spans and receiver.total("jobs.attempt.duration") >= attempts


def attempts(receiver: Receiver) -> dict[tuple[str, str], int]:
    found = Counter[tuple[str, str]]()
    for point in receiver.points("jobs.attempt.duration"):
        found[point.attributes["task"], point.attributes["outcome"]] += point.count
    return dict(found)


def test_each_job_and_each_attempt_is_counted_once(worked: Worked) -> None:
    """Also one whose worker is killed: it has lost its lease, as whoever takes it next says."""
    accepted = {"last": 3, "fail_twice": 1} | ({"hold": 1} if worked.killed else {})
    assert counted(worked.receiver, "jobs.accepted", "task") == accepted
    made = {("last", "succeeded"): 3, ("fail_twice", "retrying"): 2, ("fail_twice", "succeeded"): 1}
    if worked.killed:
        made |= {("hold", "lost"): 1, ("hold", "succeeded"): 1}
    assert attempts(worked.receiver) == made
    assert sum(point.count for point in worked.receiver.points("jobs.wait.duration", task="last")) == 3
    assert oldest_due(worked.receiver) == 0
    assert set(counted(worked.receiver, "jobs.count", "status").values()) == {0}


def test_a_trace_leads_to_each_attempt_at_a_job(worked: Worked) -> None:
    """In another process, if there are workers. What comes after another attempt has a link to it."""
    spans = of_trace(worked.receiver, worked.traces["fail_twice"])
    (accepted,) = (span for span in spans if span.kind == "SERVER")
    made = [span for span in spans if span.kind == "CONSUMER"]
    assert len(spans) == 1 + len(made)
    assert [span.parent_id for span in made] == [accepted.span_id] * 3
    first, second, third = made
    assert (first.links, second.links) == ([], [(first.trace_id, first.span_id)])
    assert third.links == [(second.trace_id, second.span_id)]
    assert [span.status for span in made] == ["ERROR", "ERROR", "UNSET"]
    elsewhere = {span.resource["service.instance.id"] != accepted.resource["service.instance.id"] for span in made}
    assert elsewhere == {worked.killed}


def test_a_job_whose_worker_was_killed_goes_on_in_its_trace(worked: Worked) -> None:
    """The attempt that has ended with its process could tell nothing."""
    if worked.killed:
        (again,) = (span for span in of_trace(worked.receiver, worked.traces["hold"]) if span.kind == "CONSUMER")
        assert again.status == "UNSET"


def test_jobs_make_no_span_but_for_their_requests_and_attempts(worked: Worked) -> None:
    """None is made where the relay looks, a lease is renewed or a message is fetched."""
    spans = worked.receiver.spans()
    assert {span.kind for span in spans} == {"SERVER", "CONSUMER"}
    assert sum(span.kind == "CONSUMER" for span in spans) == sum(attempts(worked.receiver).values()) - worked.killed

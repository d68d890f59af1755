"""What a worker tells of its jobs, as it arrives."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.otlp import Receiver, receiving
from tests.server import ROOT


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def tell(what: str, env: dict[str, str]) -> str:
    """Its log."""
    command = [sys.executable, "-m", "tests.jobs.telling", what]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_each_attempt_is_a_span_in_the_trace_of_the_request(receiver: Receiver, jobs_env: dict[str, str]) -> None:
    """A retry has a link to the attempt that failed before it. Of one whose process has died there is no span, and the
    relay counts it. What headers other services know makes no difference."""
    tell("attempts", jobs_env | receiver.env | {"OTEL_PROPAGATORS": "baggage"})
    (request,) = receiver.spans("a request")
    first, third = receiver.spans("job do")
    for span in (first, third):
        assert (span.kind, span.trace_id, span.parent_id) == ("CONSUMER", request.trace_id, request.span_id)
    assert [(span.attributes["attempt"], span.attributes["outcome"], span.status) for span in (first, third)] == [
        (1, "retrying", "ERROR"),
        (3, "succeeded", "UNSET"),
    ]
    assert (first.links, third.links) == ([], [(first.trace_id, first.span_id)])
    assert (first.attributes["error.type"], first.events) == ("RuntimeError", [])
    assert [span.parent_id for span in receiver.spans("fails once")] == [first.span_id, third.span_id]
    assert b"s3cret" not in receiver.received
    assert receiver.total("jobs.accepted", task="do") == 1
    assert receiver.total("jobs.wait.duration", task="do") == 2
    outcomes = {point.attributes["outcome"]: point.count for point in receiver.points("jobs.attempt.duration")}
    assert outcomes == {"retrying": 1, "lost": 1, "succeeded": 1}


def test_an_attempt_behind_a_retry_by_route_has_a_link_too(receiver: Receiver, jobs_env: dict[str, str]) -> None:
    tell("again", jobs_env | receiver.env)
    first, second = receiver.spans("job do", outcome="failed", attempt=1)
    assert (first.links, second.links) == ([], [(first.trace_id, first.span_id)])


def test_an_attempt_that_fails_when_its_lease_is_taken_is_no_failure(
    receiver: Receiver, jobs_env: dict[str, str]
) -> None:
    """It is lost. That is counted by who has taken the lease, and not here once more."""
    log = tell("late", jobs_env | receiver.env)
    assert "job failed: it is tried again" in log
    (span,) = receiver.spans("job do")
    assert (span.attributes["outcome"], span.status) == ("lost", "ERROR")
    assert receiver.total("jobs.wait.duration") == 1
    assert receiver.points("jobs.attempt.duration") == []


def test_an_attempt_that_its_process_gives_up_has_an_end(receiver: Receiver, jobs_env: dict[str, str]) -> None:
    tell("interrupted", jobs_env | receiver.env)
    (span,) = receiver.spans("job do")
    assert (span.attributes["outcome"], span.status) == ("interrupted", "ERROR")
    assert receiver.total("jobs.attempt.duration", outcome="interrupted") == receiver.total("jobs.wait.duration") == 1


def test_what_forks_tell_is_told_by_their_parent(receiver: Receiver, jobs_env: dict[str, str]) -> None:
    """Also what one has told that was killed."""
    log = tell("forks", jobs_env | receiver.env)
    assert {span.attributes["outcome"] for span in receiver.spans("job do")} == {"succeeded", "retrying"}
    by_id = {span.span_id: span for span in receiver.spans()}
    for what in ("succeeds", "fails once"):
        (body,) = receiver.spans(what)
        of_attempt = by_id[body.parent_id]
        of_request = by_id[of_attempt.parent_id]
        assert (of_attempt.name, of_request.name) == ("job do", "a request")
        assert of_attempt.trace_id == of_request.trace_id
        assert body.attributes["raw"] == r"b'\xff'"
    assert receiver.spans("dies") == []
    assert receiver.total("jobs.accepted") == receiver.total("jobs.wait.duration") == 3
    assert receiver.total("jobs.attempt.duration") == 2
    points = [point for name in receiver.names() for point in receiver.points(name)]
    assert len({point.resource["service.instance.id"] for point in points}) == 1
    assert len({span.resource["service.instance.id"] for span in receiver.spans()}) == 1
    assert log.count("job succeeded") == 1


def test_a_fork_exports_no_copy_of_what_its_parent_has_measured(receiver: Receiver, jobs_env: dict[str, str]) -> None:
    seldom = {"OTEL_METRIC_EXPORT_INTERVAL": "600000", "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    tell("copies", jobs_env | receiver.env | seldom)
    assert sorted(receiver.requests) == ["/v1/metrics", "/v1/traces"]
    assert receiver.total("jobs.accepted") == len(receiver.spans("before")) == 1


def test_a_fork_that_tells_more_than_there_is_space_for_is_not_held_up(jobs_env: dict[str, str]) -> None:
    """What had no space is counted."""
    tell("floods", jobs_env)

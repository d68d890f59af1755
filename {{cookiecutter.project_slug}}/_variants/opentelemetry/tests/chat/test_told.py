"""What a real server tells of its answers and of those who read them: so many as there were, and no more."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse

import pytest

from tests.otlp import Receiver, Span, receiving
from tests.server import Server, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
WHOLE, LEFT, FAILED, STALLED, STOPPED = 6, 3, 1, 1, 1
ANSWERS = WHOLE + LEFT + FAILED + STALLED + STOPPED
REQUESTS = ANSWERS + 2  # one to come back, and one to stop
CAPTURE = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
BRIEF = {
    "MAX_ANSWER_CHARS": "40000000",
    "ANSWER_GRACE_SECONDS": "0",
    "SEND_TIMEOUT_SECONDS": "0.5",
    "HEARTBEAT_SECONDS": "0.05",
}


@dataclass
class Told:
    receiver: Receiver
    log: str
    captures: bool

    def spans_of_answers(self, outcome: str) -> list[Span]:
        return self.receiver.spans("chat m-1", chat__answer__outcome=outcome)


def requests(receiver: Receiver) -> list[Span]:
    """Of the chat: there may be some to see whether the server is there."""
    return [span for span in receiver.spans() if str(span.attributes.get("url.path")).startswith("/chat/")]


def ask(server: Server, question: str, until: bytes = b"") -> HTTPResponse:
    headers = {"traceparent": f"00-{TRACE}-{CALLERS_SPAN}-01"} if "traced" in question else {}
    body = json.dumps({"question": f"SECRET: {question}", "history": [{"role": "user", "content": "BEFORE"}]})
    response = server.request("POST", "/chat/stream", body, headers)
    while (line := response.readline()) and line != until:
        pass
    return response


@pytest.fixture(scope="module", params=["h11", "httptools"])
def told(server_env: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Told]:
    """By the one parser with what is said in spans, by the other without."""
    captures = request.param == "httptools"
    with receiving() as receiver, serving(server_env | receiver.env) as serve:
        server = serve("tests.asked:app", "--http", request.param, **BRIEF, **(CAPTURE if captures else {}))
        paths = [ask(server, f"traced {number}").headers["location"] for number in range(WHOLE)]
        ask(server, "fail")
        for _ in range(LEFT):
            reader = ask(server, "wait", until=b"event: token\n")
            reader.close()
        server.deaf("/chat/stream", request_id="deaf", body=json.dumps({"question": "SECRET: flood, and wait"}))
        server.logged("[deaf] the client has taken nothing")
        reader = ask(server, "wait", until=b"event: token\n")
        server.request("DELETE", str(reader.headers["location"])).read()
        reader.read()
        assert server.request("GET", str(paths[0])).read()
        receiver.until(lambda: len(receiver.spans("chat m-1")) == ANSWERS, "each answer")
        receiver.until(lambda: len(requests(receiver)) == REQUESTS, "each request")
        receiver.until_exported()
        server.stop()
        yield Told(receiver, server.log, captures)


def test_each_answer_is_counted_once_by_how_it_has_ended(told: Told) -> None:
    duration = "gen_ai.client.operation.duration"
    by_outcome = {"end": WHOLE, "error": FAILED, "abandoned": LEFT + STALLED, "stopped": STOPPED}
    assert told.receiver.total(duration) == ANSWERS
    for outcome, number in by_outcome.items():
        points = told.receiver.points(duration, chat__answer__outcome=outcome)
        assert [point.count for point in points] == [number], outcome
        assert len(told.spans_of_answers(outcome)) == number
        (point,) = points
        about = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "acme", "gen_ai.request.model": "m-1"}
        error = {"error.type": "model_busy"} if outcome == "error" else {}
        assert point.attributes == about | error | {"chat.answer.outcome": outcome}
        assert (point.bounds[0], point.bounds[-1] > 60) == (0.01, True)


def test_the_first_words_the_pace_and_the_tokens_are_measured(told: Told) -> None:
    of_operation, usage = "gen_ai.client.operation", "gen_ai.client.token.usage"
    assert told.receiver.total(f"{of_operation}.time_to_first_chunk") == ANSWERS
    # Of each answer with more than one piece.
    assert told.receiver.total(f"{of_operation}.time_per_output_chunk") == WHOLE + STALLED
    for kind, each in (("input", 3), ("output", 2)):
        (point,) = told.receiver.points(usage, gen_ai__token__type=kind)
        assert (point.count, point.value) == (WHOLE, WHOLE * each)
        assert point.attributes["chat.answer.outcome"] == "end"


def test_each_reader_is_counted_once_by_how_its_reading_has_ended(told: Told) -> None:
    ended = {point.attributes["outcome"]: point.value for point in told.receiver.points("chat.readers.ended")}
    came_back = 1
    assert ended == {"end": WHOLE + FAILED + STOPPED + came_back, "left": LEFT, "stalled": STALLED}
    assert told.receiver.total("chat.readers.came_back") == came_back


def test_who_leaves_or_stalls_is_no_error_of_this_service(told: Told) -> None:
    requests = told.receiver.spans(http__route="/chat/stream")
    assert [span.status for span in requests] == ["UNSET"] * ANSWERS
    assert [
        point for point in told.receiver.points("http.server.request.duration") if "error.type" in point.attributes
    ] == []
    assert [line for line in told.log.splitlines() if " ERROR " in line and "the model failed" not in line] == []
    assert "Traceback" not in told.log
    assert "ASGI" not in told.log


def test_a_trace_goes_from_the_caller_to_the_run_of_the_answer(told: Told) -> None:
    for answer in told.spans_of_answers("end"):
        (request,) = [span for span in told.receiver.spans() if span.span_id == answer.parent_id]
        assert (request.trace_id, request.parent_id, request.kind) == (TRACE, CALLERS_SPAN, "SERVER")
        assert (answer.trace_id, answer.kind, answer.status) == (TRACE, "CLIENT", "UNSET")
        assert answer.attributes["gen_ai.usage.output_tokens"] == 2
        assert answer.attributes["gen_ai.usage.reasoning.output_tokens"] == 1
        assert answer.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert [span.status for span in told.spans_of_answers("error")] == ["ERROR"]
    assert {span.status for span in told.receiver.spans("chat m-1")} == {"UNSET", "ERROR"}


def test_there_is_no_span_for_a_token(told: Told) -> None:
    health = told.receiver.spans(url__path="/health")
    assert len(requests(told.receiver)) == REQUESTS
    assert len(told.receiver.spans()) - len(health) == ANSWERS + REQUESTS


def test_what_is_said_stands_in_the_span_only_where_the_environment_says_so(told: Told) -> None:
    assert (b"SECRET" in told.receiver.received) is told.captures
    assert (b"MARKED" in told.receiver.received) is told.captures
    if told.captures:
        (failed,) = told.spans_of_answers("error")
        asked = json.loads(failed.attributes["gen_ai.input.messages"])
        assert [(each["role"], each["parts"][0]["content"]) for each in asked] == [
            ("user", "BEFORE"),
            ("user", "SECRET: fail"),
        ]
        (said,) = json.loads(failed.attributes["gen_ai.output.messages"])
        assert said == {"role": "assistant", "parts": [{"type": "text", "content": "MARKED"}], "finish_reason": "error"}

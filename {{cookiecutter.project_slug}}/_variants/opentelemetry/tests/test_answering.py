"""What an answer holds of its trace, and how much of what is said may be recorded."""

import json
from contextvars import copy_context
from dataclasses import dataclass

import pytest
from opentelemetry import context, trace

from app.otel import answering
from app.otel.answering import Answering

FIELDS = {"stream": "s-1", "outcome": "end", "input_tokens": 1}


@dataclass
class Said:
    role: str
    content: str


def begun() -> Answering:
    """In the trace of a request."""
    of_request = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    context.attach(trace.set_span_in_context(trace.NonRecordingSpan(of_request)))
    told = Answering("acme", "m-1")
    told.context.run(told.begin, [Said("user", "?")])
    return told


def test_an_answer_belongs_to_the_trace_of_its_request_until_it_has_ended() -> None:
    """It is kept for a while, and with it whatever its context holds."""
    told = copy_context().run(begun)
    assert told.context.run(trace.get_current_span).get_span_context().trace_id == 1
    told.end(FIELDS, "said")
    assert told.context.run(trace.get_current_span) is trace.INVALID_SPAN
    assert told.context.run(context.get_current) == {}


def test_one_whose_model_was_never_asked_ends_all_the_same() -> None:
    told = Answering("acme", "m-1")
    told.end(FIELDS, "")
    assert told.started is not None
    assert told.seconds_to_first_piece is None


def test_of_a_long_history_the_latest_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(json.dumps(answering._latest([Said("user", "a")] * 10_000))) < 2 * answering.MOST_CHARS
    monkeypatch.setattr(answering, "MOST_CHARS", answering.AROUND_CHARS + 7)
    history = [Said("user", "first"), Said("assistant", "second"), Said("user", "third")]
    assert json.dumps(answering._latest(history)).count("parts") == 2
    assert [each["parts"] for each in answering._latest(history)] == [
        [{"type": "text", "content": "se"}],
        [{"type": "text", "content": "third"}],
    ]

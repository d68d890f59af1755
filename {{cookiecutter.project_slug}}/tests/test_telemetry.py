"""The trace that a request belongs to: it comes with the request, and is in each line about it."""

import json
import logging

import pytest

from app import logs, telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_a_line_has_the_id_of_its_trace() -> None:
    telemetry.join_trace(TRACEPARENT)
    record = logging.makeLogRecord({"name": "app.x", "msg": "said", "levelname": "INFO"})
    assert json.loads(logs.JsonLines().format(record))["trace_id"] == TRACE
    assert logs.TextLines().format(record).endswith(f" said trace_id={TRACE}")
    assert telemetry.traceparent() == TRACEPARENT


@pytest.mark.parametrize(
    "other",
    [
        "",
        TRACEPARENT.upper(),
        TRACEPARENT + "-01",
        TRACEPARENT.removeprefix("00-"),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        TRACEPARENT.replace("4", "٤"),
    ],
)
def test_what_is_no_traceparent_is_no_trace(other: str) -> None:
    telemetry.join_trace(TRACEPARENT)
    telemetry.join_trace(other)
    assert (telemetry.traceparent(), logs.trace_id.get()) == ("", "-")

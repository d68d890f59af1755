"""What is told of an answer: a line of the log, a span, and measures. All names that begin with `gen_ai.`, and what
stands in the messages, are those of OpenTelemetry's conventions for generative AI (semantic-conventions-genai).
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import Protocol

from opentelemetry import context, trace

from app.otel.measures import measure

usage = logging.getLogger("app.usage")
tracer = trace.get_tracer("app")
FINISH_REASONS = {"end": "stop", "length": "length", "refusal": "content_filter"}
FAILED = ("error", "timeout", "lost")
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
MOST_CHARS = 16_000  # of a question with its history, and of an answer, in a span
AROUND_CHARS = 70  # of each message: a history may have 10,000 of one character


class Message(Protocol):
    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


class Answering:
    """What is told of one answer. `started` is when the model was asked, and `first_piece` when its first piece came
    that is not empty: in seconds of `time.monotonic`, and None until then."""

    def __init__(self, service: str, model: str) -> None:
        """By the names of the model and of its service."""
        self.context: Context = copy_context()
        """For what makes the answer: it belongs to the trace of the request that has asked for it."""
        self.started: float | None = None
        self.first_piece: float | None = None
        self._last_piece = 0.0
        self._pieces = 0
        self._about = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": service,
            "gen_ai.request.model": model,
        }
        self._span: trace.Span = trace.INVALID_SPAN

    @property
    def seconds_to_first_piece(self) -> float | None:
        return None if self.started is None or self.first_piece is None else self.first_piece - self.started

    def begin(self, messages: Sequence[Message]) -> None:
        """The model is asked. Called in `context`, so that what asks it belongs to the span."""
        self.started = monotonic()
        name = f"chat {self._about['gen_ai.request.model']}"
        self._span = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=self._about)
        context.attach(trace.set_span_in_context(self._span))
        if self._captures:
            self._span.set_attribute("gen_ai.input.messages", json.dumps(_latest(messages)))

    def piece(self) -> None:
        """A piece has come that is not empty."""
        self._last_piece = monotonic()
        self._pieces += 1
        self.first_piece = self.first_piece or self._last_piece

    def end(self, fields: Mapping[str, object], text: str) -> None:
        """`fields` say how it has ended, and what it took. `text` is what the model has said."""
        if self.started is None:  # it was stopped before the model could be asked
            self.context.run(self.begin, ())
        usage.info("usage", extra={**fields, "chars": len(text)})
        outcome, error = str(fields["outcome"]), fields.get("error")
        ending = {"chat.answer.outcome": outcome} | ({"error.type": str(error)} if error else {})
        self._measure(self._about | ending, fields)
        said: dict[str, str | int | float | bool | Sequence[str]] = {
            **ending,
            "chat.answer.id": str(fields["stream"]),
            "gen_ai.request.stream": True,
            **{f"gen_ai.usage.{kind}_tokens": count for kind, count in _tokens(fields)},
        }
        if isinstance(thought := fields.get("reasoning_tokens"), int):
            said["gen_ai.usage.reasoning.output_tokens"] = thought
        if (first := self.seconds_to_first_piece) is not None:
            said["gen_ai.response.time_to_first_chunk"] = first
        if finish := FINISH_REASONS.get(outcome):
            said["gen_ai.response.finish_reasons"] = [finish]
        if self._captures:
            last = _message("assistant", text[:MOST_CHARS]) | {"finish_reason": finish or outcome}
            said["gen_ai.output.messages"] = json.dumps([last])
        self._span.set_attributes(said)
        if outcome in FAILED:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
        self._span = trace.INVALID_SPAN
        self.context.run(context.attach, context.Context())  # an answer is kept for a while, and needs no spans then

    @property
    def _captures(self) -> bool:
        return self._span.is_recording() and os.environ.get(CAPTURE, "").lower() == "true"

    def _measure(self, about: Mapping[str, str], fields: Mapping[str, object]) -> None:
        measure("gen_ai.client.operation.duration", monotonic() - (self.started or 0.0), about)
        if (first := self.seconds_to_first_piece) is not None:
            measure("gen_ai.client.operation.time_to_first_chunk", first, about)
        if self.first_piece and self._pieces > 1:
            mean = (self._last_piece - self.first_piece) / (self._pieces - 1)
            measure("gen_ai.client.operation.time_per_output_chunk", mean, about)
        for kind, count in _tokens(fields):
            measure("gen_ai.client.token.usage", count, {**about, "gen_ai.token.type": kind})


def _tokens(fields: Mapping[str, object]) -> list[tuple[str, int]]:
    """What the model has counted, by kind."""
    counted = ((kind, fields.get(f"{kind}_tokens")) for kind in ("input", "output"))
    return [(kind, count) for kind, count in counted if isinstance(count, int)]


def _latest(messages: Sequence[Message]) -> list[dict[str, object]]:
    """The last of them, and of the first of these what there is space for."""
    found, space = list[dict[str, object]](), MOST_CHARS
    for message in reversed(messages):
        if space <= 0:
            break
        found.insert(0, _message(message.role, message.content[:space]))
        space -= len(message.content) + AROUND_CHARS
    return found


def _message(role: str, text: str) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}

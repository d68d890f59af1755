"""OpenAI's two forms of an answer: a completion, and the chunks of one.

`[DONE]` says that the answer is whole. A stream ends in `data: {"error": …}` instead if it fails, takes too long, is
stopped, or is still open when the server goes down. The SDKs then raise an `APIError`. A stream that was cut ends in
nothing, and the SDKs raise the error of their connection.

What a model thinks is `reasoning_content`, as DeepSeek has it: OpenAI's own form has no thoughts. A tool that the model
uses is a line among them. It is no `tool_calls`, for that would ask the client to run it.
"""

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from app.chat.generation import Generation
from app.chat.openai_errors import answer_error
from app.streams.events import Done, Error, Event, KeepAlive, Reasoning, Status, Token, Tool

_json = json.JSONEncoder(separators=(",", ":")).encode
FINISH_REASONS = {"end": "stop", "length": "length", "refusal": "content_filter"}


def usage_of(generation: Generation) -> dict[str, Any]:
    """0 if the provider says nothing, because clients add these up."""
    given, made = (generation.usage.get(name, 0) for name in ("input_tokens", "output_tokens"))
    usage: dict[str, Any] = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    if (thought := generation.usage.get("reasoning_tokens")) is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return usage


def aside_of(event: Event) -> str:
    """What an event adds to the `reasoning_content`."""
    if isinstance(event, Tool):
        return f"\n[{event.name}: {event.state}]\n"
    return event.text if isinstance(event, Reasoning) else ""


def completion(generation: Generation, created: int, events: Sequence[Event]) -> dict[str, Any]:
    """The whole answer, of all its events. `created` is in seconds since 1970."""
    text = "".join(event.text for event in events if isinstance(event, Token))
    thoughts = "".join(map(aside_of, events))
    message = {"role": "assistant", "content": text, "refusal": None}
    if thoughts:
        message["reasoning_content"] = thoughts
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH_REASONS[generation.reason]}
    return _head(generation, created, "chat.completion") | {"choices": [choice], "usage": usage_of(generation)}


class ChunkEncoder:
    """Encodes one answer. With `include_usage`, the last chunk has the usage and no choices, as OpenAI's has."""

    def __init__(self, generation: Generation, created: int, include_usage: bool = False) -> None:
        self._generation = generation
        self._usage = {"usage": None} if include_usage else {}
        self._head = _head(generation, created, "chat.completion.chunk")
        # What is before and behind a text. It is made once, because most chunks have one.
        self._content, self._aside = (self._around(field) for field in ("content", "reasoning_content"))
        self._failed = False

    def __call__(self, event: Event, id: int | None) -> bytes:  # noqa: A002
        if isinstance(event, Token):
            return quote(event.text).encode().join(self._content)
        if isinstance(event, Reasoning | Tool):
            return quote(aside_of(event)).encode().join(self._aside)
        if isinstance(event, KeepAlive):
            return b": keep-alive\n\n"
        if isinstance(event, Status):
            return self._chunk({"role": "assistant", "content": ""})
        if isinstance(event, Error):
            self._failed = True
            return _data(answer_error(event.message, event.code).model_dump())
        if isinstance(event, Done) and not self._failed:
            if event.reason not in FINISH_REASONS:
                return _data(answer_error("The answer was stopped.", event.reason).model_dump())
            last = self._chunk({}, FINISH_REASONS[event.reason])
            if self._usage:
                last += _data(self._head | {"choices": [], "usage": usage_of(self._generation)})
            return last + b"data: [DONE]\n\n"
        return b""

    def _around(self, field: str) -> tuple[bytes, bytes]:
        before, behind = self._chunk({field: ""}).rsplit(b'""', 1)
        return before, behind

    def _chunk(self, delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _data(self._head | {"choices": [choice]} | self._usage)


def _head(generation: Generation, created: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{generation.id}", "object": kind, "created": created, "model": generation.model}


def _data(value: Mapping[str, Any]) -> bytes:
    return f"data: {_json(value)}\n\n".encode()

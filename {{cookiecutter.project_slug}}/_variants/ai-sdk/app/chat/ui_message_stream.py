"""The AI SDK's UI message stream, version 1: what `useChat` reads.

A message has parts, in the order of the answer's events. A part of text or reasoning has an id, which counts them, and
ends where another part begins. A tool's part has the tool's id, and what comes of the tool is put into it.

| event | chunks |
|---|---|
| `token` | `text-start` where a part begins, `text-delta`, `text-end` |
| `reasoning` | the same of `reasoning` |
| `tool`, which is called | `tool-input-available` |
| it is done, or has failed | `tool-output-available`, or `tool-output-error` |

Each chunk of a tool has `dynamic`, for the page declares no tools, and `providerExecuted`: else a chat with
`onToolCall` or `sendAutomaticallyWhen` would take it for one that the page has to run.

This is how an answer ends, and what a chat makes of it. `[DONE]` says that the answer is whole:

| the answer | the stream ends with | the chat's `status` | its last message |
|---|---|---|---|
| is whole | `text-end`, `finish`, `[DONE]` | `ready` | has the `metadata` `{"reason": "end"}` |
| was cut at a length limit, or the model refused | the same | `ready` | its reason is `length` or `refusal` |
| failed, took too long, or the server went down | `error` | `error` | keeps its parts, an open one as `streaming` |
| was stopped, or had no reader for too long | nothing | `ready` | the same |
| was cut with its connection | nothing, and no proper end | `error` | the same |

There is no `abort`. A chat that gets one is `ready`, and a part of an answer would pass for the whole. A chunk has only
keys that `ai` 5.0.0 knows, because that version throws at any other. So the reason is in the metadata, and not in the
`finishReason` of later versions.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii as quote

from app.streams.docs import stream_docs
from app.streams.events import Done, Error, Event, KeepAlive, Reasoning, Status, Token, Tool

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
TOOL_FAILED = "The tool failed."  # where nothing else is said
_json = json.JSONEncoder(separators=(",", ":")).encode


class UIMessageEncoder:
    """Encodes one answer for one connection, from the answer's start."""

    def __init__(self, text: str = "", reasoning: str = "", leaves_out: Sequence[str] = ()) -> None:
        """`text` and `reasoning` are the beginnings that the page shows already. They are left out. Tools come again: a
        chat puts them into the parts that have their ids. `leaves_out` is what the model has not been given of the
        chat: the message's metadata say so."""
        self._shown = {"text": len(text), "reasoning": len(reasoning)}
        self._metadata = {"leftOut": leaves_out} if leaves_out else {}
        self._parts = 0
        self._open = ""  # which kind of part
        self._delta = b""  # what each of its chunks begins with
        self._tools: set[str] = set()
        self._failed = False

    def __call__(self, event: Event, id: int | None) -> bytes:  # noqa: A002
        if isinstance(event, Token):
            return self._piece("text", event.text)
        if isinstance(event, Reasoning):
            return self._piece("reasoning", event.text)
        if isinstance(event, Tool):
            return self._tool(event)
        if isinstance(event, KeepAlive):
            return b": keep-alive\n\n"
        if isinstance(event, Status):
            return _chunk(type="start", messageId=event.stream_id)
        if isinstance(event, Error):
            self._failed = True
            return _chunk(type="error", errorText=event.message)
        if isinstance(event, Done) and not self._failed and event.reason != "cancelled":
            metadata = {"reason": event.reason} | self._metadata
            return self._end() + _chunk(type="finish", messageMetadata=metadata) + b"data: [DONE]\n\n"
        return b""

    def _piece(self, kind: str, text: str) -> bytes:
        behind = text[self._shown[kind] :]
        self._shown[kind] -= len(text) - len(behind)
        if not behind:
            return b""
        start = b"" if self._open == kind else self._start(kind)
        return start + self._delta + quote(behind).encode() + b"}\n\n"

    def _start(self, kind: str) -> bytes:
        end = self._end()
        self._parts += 1
        self._open = kind
        self._delta = _chunk(type=f"{kind}-delta", id=str(self._parts), delta="").removesuffix(b'""}\n\n')
        return end + _chunk(type=f"{kind}-start", id=str(self._parts))

    def _end(self) -> bytes:
        kind, self._open = self._open, ""
        return _chunk(type=f"{kind}-end", id=str(self._parts)) if kind else b""

    def _tool(self, tool: Tool) -> bytes:
        chunks = b""
        if tool.state == "called" or tool.id not in self._tools:  # a chat throws at an output without an input
            self._tools.add(tool.id)
            chunks = self._end() + _of_tool(tool, "tool-input-available", toolName=tool.name, input=tool.input)
        if tool.state == "done":
            chunks += _of_tool(tool, "tool-output-available", output=tool.output)
        if tool.state == "failed":
            why = tool.output if isinstance(tool.output, str) else _json(tool.output)
            chunks += _of_tool(tool, "tool-output-error", errorText=TOOL_FAILED if tool.output is None else why)
        return chunks


def _of_tool(tool: Tool, chunk_type: str, **data: object) -> bytes:
    return _chunk(type=chunk_type, toolCallId=tool.id, **data, providerExecuted=True, dynamic=True)


def _chunk(**data: object) -> bytes:
    return f"data: {_json(data)}\n\n".encode()


DOCS = stream_docs(
    "A UI message stream, for `useChat` of the AI SDK: `start`; the parts of the message; `finish`, whose "
    "`messageMetadata.reason` is `end`, `length` or `refusal`; `[DONE]`. Text is `text-start`, a `text-delta` for each "
    "piece, and `text-end`. What the model thinks is the same with `reasoning`. A tool of the server is "
    "`tool-input-available`, then `tool-output-available` or `tool-output-error`. What fails ends in an `error`, whose "
    "`errorText` is for the reader, with neither `finish` nor `[DONE]`. What is stopped ends in nothing.",
    Status("thinking", "9f1c0c0e"),
    Reasoning("They greet me."),
    Tool("call-1", "look_up", "called", {"word": "hello"}),
    Tool("call-1", "look_up", "done", output="a greeting"),
    Token("Hello"),
    Token(" there"),
    Done(),
    encoder=UIMessageEncoder(),
)

"""The model's service of `route.py`: prints its port, and answers in OpenAI's dialect or in Anthropic's, by the path.

A question says what it wants, `TOKENS-BURST-PAUSE`: so many tokens, so many of them together, and the seconds behind
these. Ends with its standard input. In plain asyncio, as nobody measures it.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

from contestants import end_with_standard_input

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
Answer = tuple[bytes, list[bytes], bytes]  # what comes before its tokens, these, and what comes behind


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    """With all the fields that OpenAI sends."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return completion(choices=[choice], usage=None, obfuscation="abcdefg")


def completion(**fields: Any) -> bytes:
    made = {"id": "chatcmpl-abc123", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}
    made |= {"service_tier": "default", "system_fingerprint": "fp_x"}
    return f"data: {json.dumps(made | fields)}\n\n".encode()


def openai(tokens: int) -> Answer:
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    end = [chunk({}, "stop"), completion(choices=[], usage=usage), b"data: [DONE]\n\n"]
    texts = [chunk({"content": text}) for text in words(tokens)]
    return chunk({"role": "assistant", "content": ""}), texts, b"".join(end)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def anthropic(tokens: int) -> Answer:
    message: dict[str, Any] = {"id": "msg_x", "type": "message", "role": "assistant", "content": [], "model": "m"}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    start = event("message_start", message=message)
    start += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    end = event("content_block_stop", index=0)
    end += event("message_delta", delta=delta, usage={"output_tokens": tokens}) + event("message_stop")
    deltas = ({"type": "text_delta", "text": text} for text in words(tokens))
    return start, [event("content_block_delta", index=0, delta=delta) for delta in deltas], end


def words(number: int) -> Iterator[str]:
    return (f" tok{each}" for each in range(number))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    def put(data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            (length,) = (line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            asked = json.loads(await reader.readexactly(int(length)))["messages"][-1]["content"]
            tokens, burst, pause = (float(each) for each in asked.split("-"))
            dialect = anthropic if b"/messages " in head else openai
            start, texts, end = dialect(int(tokens))
            writer.write(HEAD)
            put(start)
            for first in range(0, len(texts), int(burst)):
                put(b"".join(texts[first : first + int(burst)]))
                await writer.drain()
                await asyncio.sleep(pause)
            put(end)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    server = await asyncio.start_server(serve, "127.0.0.1", backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

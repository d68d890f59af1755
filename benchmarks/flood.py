"""A caller who asks far too much: so many requests over so many connections, as fast as they are answered.

    python flood.py PORT KEY REQUESTS CONNECTIONS

Prints a line when the first is refused, and how many had each status at the end.
"""

import asyncio
import json
import sys
from collections import Counter


def request(key: str, words: int) -> bytes:
    body = json.dumps({"question": "word " * words}).encode()
    head = f"POST /chat/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> str:
    """Reads a whole response, and gives its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        _, _, length = head.partition(b"content-length: ")
        await reader.readexactly(int(length.split(b"\r\n")[0]))
    return head.split()[1].decode()


async def flood(port: int, key: str, requests: int, connections: int) -> Counter[str]:
    statuses: Counter[str] = Counter()
    left = iter(range(requests))

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        for _ in left:
            writer.write(request(key, 1))
            statuses[status := await answer(reader)] += 1
            if status == "429" and statuses["429"] == 1:
                print("refused", flush=True)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(ask() for _ in range(connections)))
    return statuses


if __name__ == "__main__":
    _, port, key, requests, connections = sys.argv
    print(json.dumps(asyncio.run(flood(int(port), key, int(requests), int(connections)))))

"""A model's service, as far as HTTP goes: real sockets, and for each request an answer that a test has written."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

# Nothing here speaks TLS, and to read the system's certificates takes each client 0.02 s.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull


@dataclass
class Answer:
    """`pieces` of its body go out one by one; an event among them is waited for, as a first one by the headers too."""

    pieces: Iterable[str | bytes | asyncio.Event] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    whole: bool = True  # else the connection is lost behind the last piece

    @classmethod
    def problem(cls, status: int, body: Any, **headers: str) -> "Answer":
        return cls([json.dumps(body)], status, {"Content-Type": "application/json", **headers})


@dataclass
class Request:
    headers: Mapping[str, str]
    body: Any


class Upstream:
    def __init__(self, answers: Iterable[Answer]) -> None:
        self.requests: list[Request] = []
        self.waiting = asyncio.Event()  # an answer has come to an event
        self.left = asyncio.Event()  # a client has closed its connection before its answer was whole
        self.url = ""
        self.close: Callable[[], None] = lambda: None  # refuses connections from then on
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
                headers = {name.lower(): value for name, value in fields}
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append(Request(headers, json.loads(body)))
                answering = asyncio.create_task(self._answer(self._answers.pop(0), writer))
                leaving = asyncio.create_task(reader.read(1))
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    self.left.set()
                    answering.cancel()
                    return
                leaving.cancel()
                await asyncio.wait({leaving})
                if not answering.result():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        head = {"Transfer-Encoding": "chunked", **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        out = "\r\n".join(lines)
        for piece in answer.pieces:
            if isinstance(piece, asyncio.Event):
                self.waiting.set()
                await piece.wait()
            else:
                body = piece.encode() if isinstance(piece, str) else piece
                writer.write(b"%s%x\r\n%s\r\n" % (out.encode(), len(body), body))
                await writer.drain()
                out = ""
        if answer.whole:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return answer.whole


@asynccontextmanager
async def upstream(*answers: Answer) -> AsyncIterator[Upstream]:
    """Gives the answers in order, one for each request."""
    service = Upstream(answers)
    server = await asyncio.start_server(service.serve, "127.0.0.1")
    service.close = server.close
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield service
    finally:
        server.close()

"""What the tests of telemetry have on both sides of a project: a model's service that keeps what its requests belong
to, and readers that stay, leave or come back."""

import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from model_services import END, START, STOP, USAGE, asking, delta, ended, events, said, sse
from rendering import Project
from running import Server

SECRET = "no-trace-of-this"
INPUT_TOKENS, OUTPUT_TOKENS = 9, 4  # of each answer, as the service says


class Traceparent(NamedTuple):
    trace_id: str
    span_id: str

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


def new_trace() -> Traceparent:
    """As one that a browser begins."""
    return Traceparent(secrets.token_hex(16), secrets.token_hex(8))


class Model(ThreadingHTTPServer):
    """Says as many pieces as the question asks for, and then ends, fails or waits until it is left."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.traceparents: list[str] = []

    def settings(self, project: Project) -> dict[str, str]:
        """With which the project asks this service."""
        return asking(project.answers["model_provider"], "m", self.server_port) | {"MODEL_MAX_RETRIES": "0"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def handle(self) -> None:
        with suppress(ConnectionError):  # an answer that is stopped
            super().handle()

    def do_POST(self) -> None:
        asked = json.loads(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"])
        self.server.traceparents.append(self.headers["traceparent"] or "")
        texts = [f"{SECRET}.{number} " for number in range(asked["pieces"])]
        if self.path.endswith("/chat/completions"):
            body, rest = sse(*said(*texts), done=False), sse(STOP, USAGE)
        else:
            body = events(START, *(delta(type="text_delta", text=text) for text in texts))
            rest = events(ended("end_turn"), END)
        fails = asked["then"] == "fail"
        self.send_response(500 if fails else 200)
        self.send_header("Content-Type", "application/json" if fails else "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._write(b'{"error": {"type": "api_error", "message": "%s"}}' % SECRET.encode() if fails else body)
        if asked["then"] == "wait":
            self.rfile.read(1)
            self.close_connection = True
        elif not fails:
            self._write(rest)
        self._write(b"")

    def _write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_model() -> Iterator[Model]:
    with Model() as model:
        threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield model
        model.shutdown()


def ask(
    server: Server, pieces: int = 3, then: str = "end", key: str = "", trace: Traceparent | None = None
) -> HTTPResponse:
    """The response once its head is there."""
    question = json.dumps({"pieces": pieces, "then": then, "secret": SECRET})
    return server.request("POST", "/chat/stream", json.dumps({"question": question}), _headers(key, trace))


def read_again(server: Server, answer: HTTPResponse, key: str = "", trace: Traceparent | None = None) -> HTTPResponse:
    """From its start."""
    return server.request("GET", f"/chat/stream/{answer.headers['X-Stream-ID']}", headers=_headers(key, trace))


def _headers(key: str, trace: Traceparent | None) -> dict[str, str]:
    return ({"Authorization": f"Bearer {key}"} if key else {}) | ({"traceparent": str(trace)} if trace else {})


def reason(response: HTTPResponse) -> str:
    """How the stream ends, which is read to its end."""
    text = response.read().decode()
    done = re.findall(r"^event: done\n(?:id: \d+\n)?data: (.*)$", text, re.MULTILINE)
    assert len(done) == 1, (response.status, text)
    return str(json.loads(done[0])["reason"])


def read_some(response: HTTPResponse) -> None:
    """Up to its first token."""
    assert any(line.startswith(b"event: token") for line in iter(response.readline, b""))

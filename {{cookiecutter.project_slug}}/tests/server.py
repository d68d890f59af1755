"""Real uvicorn processes, for what only a process has: signals, sockets, stderr."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_SECONDS = 120.0  # on a machine that is very busy
WAIT_SECONDS = 30.0  # only a broken test waits that long; a model's time is up after 60 s
STOP_SECONDS = 15.0


class Server:
    stopped: float

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port
        self._lines: list[str] = []
        self._closed = False
        self._responses: list[HTTPResponse] = []
        self._clients: list[socket.socket] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def request(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> HTTPResponse:
        """The response as soon as its headers are there: its body can be read while it is made."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        sent = {"Connection": "close", "Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, body, sent)
        self._responses.append(response := connection.getresponse())
        return response

    def logged(self, text: str, seconds: float = WAIT_SECONDS) -> str:
        """Waits for a line of the log with `text` in it, for so many seconds at most."""

        def found() -> list[str]:
            return [line for line in self._lines if text in line]

        with self._news:
            self._news.wait_for(lambda: found() or self._closed, seconds)
        assert found(), f"nothing logged with {text!r}:\n{self.log}"
        return found()[0]

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def seconds(self, path: str) -> float:
        """How long a GET takes."""
        began = time.monotonic()
        self.request("GET", path).read()
        return time.monotonic() - began

    def deaf(
        self, path: str, announced: int = 0, request_id: str = "-", body: str = "", buffer: int = 4096
    ) -> socket.socket:
        """A client that takes nothing of what it asks for but what its buffer holds. It sends `body`, or nothing though
        it has announced so many bytes."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(WAIT_SECONDS)
        client.connect(("127.0.0.1", self.port))
        headers = f"Host: localhost\r\nContent-Length: {announced or len(body)}\r\nX-Request-ID: {request_id}"
        client.sendall(f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}".encode())
        self._clients.append(client)
        return client

    def connect(self, start: str) -> socket.socket:
        """A client that has sent the start of a request."""
        client = socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS)
        client.sendall(start.encode())
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """Sends SIGTERM, and waits until the process is gone: `stopped` seconds. Kills it after STOP_SECONDS."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join(STOP_SECONDS)
        self.stopped = time.monotonic() - began

    def leave_all(self) -> None:
        """Leaves all responses."""
        for response in self._responses:
            response.close()

    def close(self) -> None:
        self.leave_all()
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        self.process.stderr.close()
        with self._news:
            self._closed = True
            self._news.notify_all()


def read_until(client: socket.socket, words: bytes) -> None:
    """Takes what comes, up to `words`. Raises EOFError if the connection ends before."""
    received = b""
    while words not in received:
        if not (piece := client.recv(4096)):
            raise EOFError(received)
        received += piece


Serve = Callable[..., Server]


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[Serve]:
    servers: list[Server] = []

    def serve(app: str, *options: str, **settings: str) -> Server:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options],
            cwd=ROOT,
            env={**os.environ, **environment, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        servers.append(server := Server(process, port))
        server.logged("Application startup complete", START_SECONDS)
        while process.poll() is None:  # uvicorn opens its port a moment later, and with --reload logs nothing then
            with suppress(ConnectionRefusedError):
                server.request("GET", "/health").close()
                return server
        raise AssertionError(f"the server has ended:\n{server.log}")

    try:
        yield serve
    finally:
        for server in servers:
            server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

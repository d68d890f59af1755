"""What only a real server shows: what is logged, how it stops."""

import ctypes
import json
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.client import HTTPResponse

import pytest
import uvicorn

from tests.callers.knowing import ENV, HEADERS, NAME, TOKEN
from tests.server import Serve, Server, read_until, serving
from tests.sse import Received, events, parse

QUESTION = json.dumps({"question": "word " * 2000})
DRAIN_SECONDS = 0.1
TRIES = 3
KNOWN = f"Authorization: Bearer {TOKEN}\r\n"
CHUNKED = f"POST /feedback HTTP/1.1\r\nHost: localhost\r\n{KNOWN}Transfer-Encoding: chunked\r\n\r\n"
ENDLESS_BYTES = 32 * 1024 * 1024  # more than all buffers on the way
SO_ATTACH_FILTER = 26  # Linux's
LARGE_BYTES = 2_000_000
SILENT = [f"/text?size=5000000&then={then}" for then in ("close", "keep-alive")]
SLOW = [f"/event?size={LARGE_BYTES}", *(f"/text?size={LARGE_BYTES}&then={then}" for then in ("close", "keep-alive"))]
FEEDBACK = json.dumps({"stream_id": "s-1", "rating": -1, "comment": "wrong"})
SERVERS = [
    pytest.param(("--loop", "asyncio", "--http", "h11", "--no-access-log"), id="asyncio, h11"),
    pytest.param(("--loop", "uvloop", "--http", "httptools"), id="uvloop, httptools"),
    pytest.param(("--workers", "2"), id="two workers"),
]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to stop a process gently")


def lines(response: HTTPResponse) -> Iterator[str]:
    return (line.decode().rstrip("\n") for line in iter(response.readline, b""))


def ask(server: Server, path: str = "/chat/stream", question: str = QUESTION) -> Iterator[Received]:
    """A stream whose first event has been read. To read on after its last raises unless it ended properly."""
    stream = events(lines(server.request("POST", path, question)))
    assert next(stream).name == "status"
    return stream


class Clients:
    """Those of one server that take nothing, or slowly. They wait side by side, for each needs a multiple of the time
    for which a client may take nothing."""

    def __init__(self, server: Server) -> None:
        self.deaf = {path: server.deaf(path) for path in SILENT}
        if sys.platform == "linux":
            self.gone = server.deaf("/chat/stream", request_id="trace-15", body=QUESTION)
            read_until(self.gone, b"event: token")
            drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # the program `ret 0`
            self.gone.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop_all)))
        with ThreadPoolExecutor(len(SLOW)) as readers:
            self.has_all = dict(zip(SLOW, readers.map(partial(take_slowly, server), SLOW), strict=True))


def take_slowly(server: Server, path: str) -> bool:
    """A megabyte a second. Returns whether all of it has come.

    With a buffer of a few packets, the kernel itself would pause for long: it asks whether there is space, and waits
    twice as long each time before it asks again.
    """
    reader, received = server.deaf(path, buffer=64 * 1024), b""
    with suppress(ConnectionError):
        while piece := reader.recv(100_000):
            received += piece
            if received.endswith(b"0\r\n\r\n") or len(received.partition(b"\r\n\r\n")[2]) == LARGE_BYTES:
                return True
            time.sleep(len(piece) / 1_000_000)
    return False


@pytest.fixture(scope="module")
def clients(server: Server) -> Clients:
    return Clients(server)


@pytest.fixture(scope="module")
def strict(server_env: dict[str, str]) -> Iterator[Server]:
    """A server that asks who its callers are, and waits half a second for a request."""
    with serving(server_env) as serve:
        yield serve("tests.apps:app", **ENV, REQUEST_TIMEOUT_SECONDS="0.5", MODEL_TIMEOUT_SECONDS="60")


@pytest.fixture(scope="module")
def brief(server_env: dict[str, str]) -> Iterator[Server]:
    """A server whose streams last 0.3 s."""
    with serving(server_env) as serve:
        yield serve("tests.apps:echo", MAX_STREAM_SECONDS="0.3", ECHO_TOKEN_SECONDS="0.01")


def in_time(server: Server, seconds: float, serve: Serve, *idle: str) -> bool:
    """Whether SIGTERM has stopped the server in so many seconds. On a busy machine it may take five times as long as a
    server that does nothing, which is started as `idle` says."""
    if server.stopped <= seconds:
        return True
    other = serve(*idle)
    other.stop()
    return server.stopped <= DRAIN_SECONDS + 5 * other.stopped


def test_the_first_token_is_read_before_the_last_is_made(server: Server) -> None:
    response = server.request("POST", "/chat/stream", QUESTION, {"X-Request-ID": "trace-5"})
    status, token = (next(stream) for stream in [events(lines(response))] * 2)
    assert (status.name, token.data) == ("status", {"text": "a"})
    assert "[trace-5] the model is closed" not in server.log
    response.close()


def test_the_audit_line_reaches_stderr_with_the_request_id(server: Server) -> None:
    response = server.request("POST", "/feedback", FEEDBACK, {"X-Request-ID": "trace-7"})
    assert response.status == 202
    assert "app.audit" in server.logged("[trace-7] feedback")


def test_the_line_about_a_request_has_its_id_and_not_its_query(server: Server) -> None:
    server.request("GET", "/stream?text=marked&more", headers={"X-Request-ID": "trace-6"})
    line = server.logged("[trace-6] 127.0.0.1:")
    assert line.endswith('"GET /stream HTTP/1.1" 200 caller=anonymous\n')
    assert " INFO uvicorn.access [" in line


@pytest.mark.parametrize(
    "options",
    [
        ("--http", "h11"),
        ("--workers", "2", "--log-config", "app/json_logs.json"),
    ],
    ids=["h11", "httptools in two workers"],
)
def test_each_line_of_a_server_is_json(serve: Serve, options: tuple[str, ...]) -> None:
    server = serve("tests.apps:app", *options, LOG_FORMAT="json", DRAIN_SECONDS="0.1", **ENV)
    known = {**HEADERS, "X-Request-ID": "trace-2"}
    server.request("POST", "/feedback", FEEDBACK, known).read()
    server.request("POST", "/failing-task", headers=known).read()
    server.request("GET", "/fails", headers={**known, "X-Request-ID": "trace-3"}).read()
    server.logged("the task after it ran")
    server.stop()
    objects = [json.loads(line) for line in server.log.splitlines()]
    told = {found["message"]: found for found in objects if found["request_id"] == "trace-2"}
    assert {found["caller"] for found in told.values()} - {"-"} == {NAME}
    assert told["feedback"]["rating"] == -1
    assert told["background task broken failed"]["traceback"].endswith("RuntimeError: a task, on purpose")
    requests = [found for found in objects if found["logger"] == "uvicorn.access" and found["path"] != "/health"]
    assert [(found["request_id"], found["path"], found["status"]) for found in requests] == [
        ("trace-2", "/feedback", 202),
        ("trace-2", "/failing-task", 200),
        ("trace-3", "/fails", 500),
    ]
    twice = [found["logger"] for found in objects if found["request_id"] == "trace-3" and "traceback" in found]
    assert twice == ["app.error_handlers", "uvicorn.error"]
    assert any("Uvicorn running on" in found["message"] for found in objects)


def test_a_failing_background_task_reaches_stderr_with_the_request_id_and_the_next_one_runs(server: Server) -> None:
    server.request("POST", "/failing-task", headers={"X-Request-ID": "trace-8"})
    server.logged("[trace-8] background task broken failed")
    server.logged("RuntimeError: a task, on purpose")
    server.logged("[trace-8] the task after it ran")


def test_a_failing_model_reaches_stderr_with_the_request_id_of_the_error(server: Server) -> None:
    *_, error, done = events(lines(server.request("POST", "/failing-stream", headers={"X-Request-ID": "trace-9"})))
    assert (error.name, error.data["request_id"], done.name) == ("error", "trace-9", "done")
    server.logged("[trace-9] the model failed")
    server.logged("RuntimeError: a model, on purpose")
    assert "on purpose" not in json.dumps(error.data)


def test_a_client_that_takes_nothing_is_cut_off_after_the_send_timeout(server: Server) -> None:
    reader = server.deaf("/busy-stream", request_id="trace-10")
    server.logged("[trace-10] the client has taken nothing for 1 s")
    server.logged("[trace-10] the model is closed")
    received = b"".join(iter(lambda: reader.recv(65536), b""))
    assert not received.endswith(b"0\r\n\r\n")
    assert "without completing response" not in server.log


def test_a_client_that_leaves_stops_the_model(server: Server) -> None:
    response = server.request("POST", "/chat/stream", QUESTION, {"X-Request-ID": "trace-11"})
    next(events(lines(response)))
    response.close()
    server.logged("[trace-11] the model is closed")


def test_a_model_that_never_waits_and_a_client_that_has_left_hold_up_nobody(server: Server) -> None:
    idle = min(server.seconds("/health") for _ in range(TRIES))
    response = server.request("POST", "/busy-stream", QUESTION, {"X-Request-ID": "trace-12"})
    next(events(lines(response)))
    response.close()
    assert min(server.seconds("/health") for _ in range(TRIES)) < max(0.1, 20 * idle)
    server.logged("[trace-12] the model is closed")


def test_what_is_no_exception_ends_neither_the_server_nor_other_work(server: Server) -> None:
    """`sys.exit()` in a model, and in background tasks of both kinds."""
    *_, error, done = events(lines(server.request("POST", "/exiting-stream", headers={"X-Request-ID": "trace-13"})))
    assert (error.data["code"], done.data) == ("model_error", {"reason": "error"})
    server.logged("[trace-13] the model failed")
    server.logged("[trace-13] background task exit failed")
    server.logged("[trace-13] background task exits failed")
    server.logged("[trace-13] the task after them ran")
    assert server.request("GET", "/health").status == 200


@pytest.mark.parametrize("path", SLOW)
def test_a_slow_reader_gets_all_of_it(clients: Clients, path: str) -> None:
    """Also of a large event, and of what is no stream."""
    assert clients.has_all[path]


def test_a_client_that_resets_behind_a_second_request_is_found_out_by_a_keep_alive(server: Server) -> None:
    """uvicorn stops reading when that is there, and so does not see the reset."""
    client = server.deaf("/chat/stream", request_id="trace-14", body=QUESTION)
    read_until(client, b"event: token")
    client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    server.logged("[trace-14] the model is closed")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_USER_TIMEOUT, and such filters")
def test_a_client_that_is_gone_without_a_word_is_found_out(server: Server, clients: Clients) -> None:
    """As one whose machine has lost its power: nothing that comes to its socket is acknowledged any more."""
    server.logged("[trace-15] the model is closed")


def test_a_client_that_takes_a_byte_at_a_time_is_cut_off_when_its_stream_has_lasted_too_long(brief: Server) -> None:
    """It takes all the while, so the send timeout does not end it."""
    reader = brief.deaf("/busy-stream", request_id="trace-16")
    while "the model is closed" not in brief.log and reader.recv(1):
        time.sleep(0.001)
    brief.logged("[trace-16] a stream has lasted 0.3 s")
    received = b""
    with suppress(ConnectionError):
        while piece := reader.recv(65536):
            received = piece
    assert not received.endswith(b"0\r\n\r\n")


def test_a_reader_whose_connection_is_lost_or_has_lasted_too_long_comes_back_and_misses_nothing(brief: Server) -> None:
    response = brief.request("POST", "/chat/stream", json.dumps({"question": "word " * 100}))
    path, read = response.headers["Location"], list(events(lines(response)))
    assert read[-1].data == {"reason": "shutdown"}  # its words take three times as long as a stream may last
    received = [event for event in read if event.id]

    def come_back() -> HTTPResponse:
        return brief.request("GET", path, headers={"Last-Event-ID": str(received[-1].id)})

    received.append(next(events(lines(response := come_back()))))
    response.close()  # its connection is lost
    while read[-1].data == {"reason": "shutdown"}:
        read = list(events(lines(come_back())))
        received += [event for event in read if event.id]
    assert [event.id for event in received] == [str(number) for number in range(1, len(received) + 1)]
    assert "".join(event.data["text"] for event in received[1:-1]) == "You said: " + "word " * 100
    assert read[-1].data == {"reason": "end"}
    assert received == list(events(lines(brief.request("GET", path))))
    assert come_back().status == 204


@pytest.mark.parametrize(
    "start",
    ["GET /", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", f"{CHUNKED}1;", f"{CHUNKED}0\r\nX-Long: "],
    ids=["a request line", "a header", "a chunk's extension", "a trailer"],
)
def test_a_line_of_a_request_without_end_is_refused(server: Server, start: str) -> None:
    client = server.connect(start)
    sent = 0
    with suppress(ConnectionError):
        while sent < ENDLESS_BYTES:
            sent += client.send(b"x" * 64 * 1024)
    assert sent < ENDLESS_BYTES


def test_a_request_that_is_not_whole_in_time_loses_its_connection(strict: Server) -> None:
    answer = strict.request("POST", "/chat/stream", QUESTION, HEADERS)
    whole = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [strict.connect(start) for start in ("", "GET / HTTP/1.1\r\nHost: lo", f"{CHUNKED}1\r\n", whole)]
    read_until(clients[-1], b"}")
    clients[-1].sendall(whole[:30].encode())
    for client in clients:
        with suppress(ConnectionError):
            assert client.recv(1) == b""
    assert strict.request("DELETE", answer.headers["Location"], headers=HEADERS).status == 202
    assert list(events(lines(answer)))[-1].data == {"reason": "cancelled"}  # its connection was older, and is whole


@pytest.mark.parametrize("path", SILENT)
def test_who_takes_nothing_of_what_is_no_stream_is_cut_off_too(server: Server, clients: Clients, path: str) -> None:
    server.logged(f"{clients.deaf[path].getsockname()} is cut off: it has taken nothing")


def test_a_client_that_names_no_host_is_no_browser(server: Server) -> None:
    assert server.connect("GET /stream?text=x HTTP/1.0\r\n\r\n").recv(4096).startswith(b"HTTP/1.1 200")


def test_a_request_that_comes_amid_another_has_a_caller_of_its_own(strict: Server) -> None:
    start = "GET /stream?text=x HTTP/1.1\r\nHost: localhost\r\n"
    strict.connect(f"{start}X-Request-ID: one\r\n{KNOWN}\r\n{start}X-Request-ID: two\r\n\r\n")
    assert re.search(f"\" 200 caller='?{re.escape(NAME)}'?$", strict.logged("[one] 127.0.0.1:"))
    assert strict.logged("[two] 127.0.0.1:").endswith('" 401\n')


def test_a_websocket_of_yours_needs_a_token_and_may_last(strict: Server) -> None:
    asks = "GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    asks += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    assert strict.connect(f"{asks}\r\n").recv(4096).startswith(b"HTTP/1.1 403")
    opened = strict.connect(f"{asks}{KNOWN}\r\n")
    assert opened.recv(4096).startswith(b"HTTP/1.1 101")
    assert strict.connect("").recv(1) == b""  # when this one's time is over, so is that of an older one
    opened.sendall(b"\x89\x80\0\0\0\0")
    assert opened.recv(2) == b"\x8a\0", "a ping has no pong"


def test_a_model_that_thinks_for_ever_and_never_waits_holds_up_nobody(server: Server) -> None:
    idle = min(server.seconds("/health") for _ in range(TRIES))
    response = server.request("POST", "/thinking-stream", QUESTION, {"X-Request-ID": "trace-18"})
    assert next(events(lines(response))).name == "status"
    assert min(server.seconds("/health") for _ in range(TRIES)) < max(0.1, 20 * idle)
    response.close()
    server.logged("[trace-18] the model is closed")


def test_to_stop_an_answer_closes_its_model_at_once(server: Server) -> None:
    answer = server.request("POST", "/chat/stream", QUESTION, {"X-Request-ID": "trace-17"})
    stream = events(lines(answer))
    assert [next(stream).name for _ in range(2)] == ["status", "token"]
    assert server.request("DELETE", answer.headers["Location"]).status == 202
    assert [event.data for event in stream] == [{"reason": "cancelled"}]
    server.logged("[trace-17] the model is closed")
    assert "reason=cancelled" in server.logged("[trace-17] usage")


def test_a_server_that_stops_without_a_signal_drains(serve: Serve) -> None:
    """As one that recycles its processes: nobody else would tell the stream, and the server waits for it."""
    server = serve("tests.apps:app", "--limit-max-requests", "3", DRAIN_SECONDS=str(DRAIN_SECONDS))
    stream = ask(server)
    for _ in range(3):
        with suppress(OSError):  # it may refuse the last of them
            server.request("GET", "/health").close()
    server.logged("draining")
    assert [event.data.get("reason") for event in stream][-1] == "shutdown"
    server.process.wait(15)


class Stopped:
    """A server that SIGTERM has stopped while all these clients were connected."""

    def __init__(self, serve: Serve, *options: str) -> None:
        self.serve = serve
        self.options = options
        self.server = server = serve("tests.apps:app", *options, DRAIN_SECONDS=str(DRAIN_SECONDS))
        server.request("POST", "/long-task")
        server.logged("the long task began")
        for path in ("/busy-stream", "/large-stream"):
            server.deaf(path)
        server.logged("a large stream is made")
        server.deaf("/feedback", announced=10)
        server.request("GET", "/health")  # answered behind it
        ask(server, "/stream-with-a-task")
        read = [server.request("POST", path, QUESTION) for path in ("/chat/stream", "/busy-stream") for _ in range(2)]
        read.append(server.request("POST", "/thinking-stream", QUESTION))
        server.request("POST", "/chat/stream", QUESTION, {"X-Request-ID": "left"}).close()
        self.streams = 4 + len(read)
        with ThreadPoolExecutor(len(read)) as readers:
            reading = [readers.submit(stream.read) for stream in read]  # raises unless it ended properly
            server.stop()
        self.read = [each.result().decode() for each in reading]


@pytest.fixture(scope="module", params=SERVERS)
def stopped(request: pytest.FixtureRequest, server_env: dict[str, str]) -> Iterator[Stopped]:
    with serving(server_env) as serve:
        yield Stopped(serve, *request.param)


def test_sigterm_ends_silent_and_busy_streams_with_a_word(stopped: Stopped) -> None:
    for text in stopped.read:
        error, done = parse("\n\n".join(text.split("\n\n")[-3:]))  # a busy stream's tokens are many
        assert (error.name, error.data["code"], error.id) == ("error", "server_shutdown", None)
        assert error.data["retryable"] is True
        assert done == Received("done", {"reason": "shutdown"}, None)


def test_sigterm_closes_each_model_before_the_server_says_that_it_is_down(stopped: Stopped) -> None:
    log = stopped.server.log
    assert log.count("the model is closed") == stopped.streams
    before, _, after = log.rpartition("the model is closed")
    assert "Application shutdown complete" in after
    assert "Application shutdown complete" not in before or "--workers" in stopped.options
    assert "Traceback" not in log


def test_sigterm_stops_the_server_within_the_drain_time_whatever_its_clients_neither_take_nor_send(
    stopped: Stopped,
) -> None:
    """uvicorn alone would wait for who takes nothing, whether the stream goes on or has ended with its last piece
    unsent, and for who does not send all of a request."""
    assert in_time(stopped.server, DRAIN_SECONDS + 1, stopped.serve, "tests.apps:app", *stopped.options)


def test_an_answer_that_nobody_reads_has_the_drain_time_too(stopped: Stopped) -> None:
    assert "[left] the model is closed" in stopped.server.log
    assert "reason=error" in stopped.server.logged("[left] usage")


def test_a_server_that_shows_no_requests_shows_none(stopped: Stopped) -> None:
    assert ("GET /health" in stopped.server.log) == ("--no-access-log" not in stopped.options)


def test_sigterm_cancels_an_async_background_task_at_the_drain_limit(stopped: Stopped) -> None:
    assert "background task long cancelled" in stopped.server.log


def test_a_background_task_of_a_stream_runs_when_sigterm_has_ended_that(stopped: Stopped) -> None:
    assert "the task of the stream ran" in stopped.server.log


def test_a_stream_that_ends_within_the_drain_time_ends_as_usual(serve: Serve) -> None:
    server = serve("tests.apps:echo", ECHO_TOKEN_SECONDS="0.005", DRAIN_SECONDS="30")
    stream = ask(server, question=json.dumps({"question": "word " * 100}))
    server.process.terminate()
    assert [event.data.get("reason") for event in stream][-1] == "end"
    server.process.wait(15)
    assert server.process.returncode == -signal.SIGTERM


def test_a_reloading_server_stops_with_a_stream_open(serve: Serve) -> None:
    server = serve("tests.apps:echo", "--reload", DRAIN_SECONDS=str(DRAIN_SECONDS))
    stream = ask(server)
    server.stop()
    assert [event.name for event in stream][-1] == "done"
    assert "SIGKILL" not in server.log
    assert in_time(server, 2, serve, "tests.apps:echo", "--reload")


def test_a_bad_setting_stops_the_start_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn loads the application in this process, and lets pass what ends any Python program with its text."""
    monkeypatch.setenv("DRAIN_SECONDS", "soon")
    monkeypatch.delitem(sys.modules, "app.main", raising=False)
    with pytest.raises(SystemExit, match="DRAIN_SECONDS: Input should be a valid number"):
        uvicorn.Config("app.main:app", log_config=None).load()


def test_a_second_sigint_still_kills(serve: Serve) -> None:
    server = serve("tests.apps:echo", DRAIN_SECONDS="60")
    ask(server)
    server.process.send_signal(signal.SIGINT)
    server.logged("draining")
    server.process.send_signal(signal.SIGINT)
    server.process.wait(15)

"""What callers write, what a model answers, and keys are not in the log, whatever becomes of a request."""

import json
import time

from tests.callers.knowing import ENV, HEADERS, TOKEN
from tests.server import Serve, Server
from tests.sse import events

MARKED = "m4rk3d"
QUESTION = json.dumps({"question": f"{MARKED} word " * 3, "history": [{"role": "user", "content": MARKED}]})
DOCUMENT = json.dumps({"title": MARKED, "text": f"{MARKED} and more"})


def statuses(server: Server) -> list[int]:
    """Of requests of all kinds, right and wrong, each with marked text."""
    asked = [
        ("POST", "/chat/stream", QUESTION, HEADERS),
        ("POST", "/chat/stream", QUESTION, HEADERS | {"Idempotency-Key": "k"}),
        ("POST", "/chat/stream", QUESTION.replace("word", "another"), HEADERS | {"Idempotency-Key": "k"}),
        ("POST", "/chat/stream", QUESTION, {"Authorization": f"Bearer {MARKED}"}),
        ("POST", "/chat/stream", json.dumps({"question": [MARKED], MARKED: 1}), HEADERS),
        ("POST", "/chat/stream", json.dumps({"question": f"{MARKED}\ud800"}), HEADERS),
        ("POST", "/chat/stream", QUESTION[:20], HEADERS),
        ("POST", "/chat/stream", QUESTION + " " * 100_000, HEADERS),
        ("POST", "/documents", DOCUMENT, HEADERS),
        ("POST", "/documents", json.dumps({"title": 1, "text": MARKED}), HEADERS),
        ("GET", f"/stream?text={MARKED}", None, HEADERS),
        ("GET", f"/stream?text={MARKED}&text=%FF", None, {}),
    ]
    responses = [server.request(method, path, body, headers) for method, path, body, headers in asked]
    for response in responses:
        response.read()
    return [response.status for response in responses]


def leave_stop_and_cut(server: Server) -> None:
    """Three answers are under way: the client of one leaves, one is stopped, and the server stops at the third."""
    long = json.dumps({"question": f"{MARKED} " * 4_000})
    left, stopped, cut = (server.request("POST", "/chat/stream", long, HEADERS) for _ in range(3))
    for response in (left, stopped, cut):
        stream = events(line.decode().rstrip("\n") for line in iter(response.readline, b""))
        while next(stream).name != "token":
            pass
    ended = server.log.count(" usage ")
    left.close()
    server.request("DELETE", stopped.headers["Location"], headers=HEADERS).read()
    deadline = time.monotonic() + 30
    while server.log.count(" usage ") < ended + 2:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.01)
    server.stop()


def test_what_is_asked_and_answered_is_not_in_the_log(serve: Serve) -> None:
    settings = {"LOG_LEVEL": "DEBUG", "ECHO_TOKEN_SECONDS": "0.01", "MAX_BODY_BYTES": "50000", "DRAIN_SECONDS": "0.1"}
    server = serve("app.main:app", **ENV, **settings, ANSWER_GRACE_SECONDS="0", ANSWER_DRAIN_SECONDS="0")
    assert statuses(server) == [200, 200, 409, 401, 422, 422, 422, 413, 202, 422, 200, 401]
    server.connect(f"POST /chat/stream HTTP/1.1\r\nContent-Length: 99\r\n\r\n{MARKED}")
    server.connect(f"{MARKED} is no HTTP\r\n\r\n")
    server.logged("Invalid HTTP request received.")
    leave_stop_and_cut(server)
    assert server.log.count(" reason=end ") >= 2
    assert server.log.count(" reason=cancelled ") >= 2
    assert not [secret for secret in (MARKED, TOKEN) if secret in server.log]

"""Each render served for real: its own interpreter, a socket, and the service and the worker that it needs."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPResponse
from typing import Any

import pytest
from rendering import Answers, Project, grouped, named, varied
from running import START_SECONDS, STOP_SECONDS, Server, posix_only, python_of, running, services, serving

pytestmark = posix_only
WORDS = [f"word{number}" for number in range(1000)]
QUESTION = json.dumps({"question": " ".join(WORDS)})


@pytest.fixture(scope="session")
def project(variant: Answers, render: Callable[..., Project]) -> Project:
    project = render(**variant)
    project.sync()
    return project


@pytest.fixture(scope="session")
def env(project: Project) -> Iterator[dict[str, str]]:
    """The environment of the project's processes, with the services that its queue needs."""
    with services(project) as env:
        yield env


@pytest.fixture(scope="session")
def server(project: Project, env: dict[str, str]) -> Iterator[Server]:
    """For the tests that leave it as they found it. It makes no keep-alives: what does not go on ends a test by the
    time limit of its socket."""
    with serving(project, env, ECHO_TOKEN_SECONDS="0", HEARTBEAT_SECONDS="600") as server:
        yield server


def events(response: HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event, as soon as it has been read."""
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    name = ""
    for line in iter(response.readline, b""):
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_the_first_token_is_read_before_the_last_is_made(project: Project, env: dict[str, str]) -> None:
    """To make the whole answer takes longer than the socket waits in silence for its first token.

    A server that is told to stop then never makes the last one, and says so.
    """
    assert len(WORDS) * 0.2 > START_SECONDS
    with serving(project, env, ECHO_TOKEN_SECONDS="0.2", HEARTBEAT_SECONDS="600", DRAIN_SECONDS="0") as server:
        stream = events(server.request("POST", "/chat/stream", QUESTION))
        assert next(stream)[0] == "status"
        assert next(stream) == ("token", {"text": "You"})
        server.process.stop()
        rest = list(stream)
        assert rest[-1] == ("done", {"reason": "shutdown"})
        assert len(rest) < len(WORDS)


# Whose streams and shutdown are the same bytes as with the others.
@pytest.mark.parametrize("variant", grouped([varied()[0], varied()[-1]]), indirect=True, ids=named)
def test_a_server_that_stops_waits_for_a_reader_who_stays_and_not_for_one_who_has_left(
    project: Project, env: dict[str, str]
) -> None:
    """The stream of a client that leaves ends, and the server goes on for others. Told to stop, it goes on with what is
    still read, and ends when nobody reads: its limit is further off than the test waits for that."""
    times = {"DRAIN_SECONDS": str(10 * STOP_SECONDS), "ANSWER_GRACE_SECONDS": "0"}
    with serving(project, env, ECHO_TOKEN_SECONDS="0.05", **times) as server:
        left = server.request("POST", "/chat/stream", QUESTION)
        assert next(events(left))[0] == "status"
        left.close()
        assert server.request("GET", "/health").status == 200
        assert list(events(server.request("GET", "/stream?text=on+and+on")))[-1] == ("done", {"reason": "end"})
        response = server.request("POST", "/chat/stream", QUESTION)
        stream = events(response)
        with closing(response):
            assert next(stream)[0] == "status"
            server.process.send(signal.SIGTERM)
            server.process.printed("draining")
            assert [next(stream)[0] for _ in range(20)] == ["token"] * 20
            assert server.process.alive
        server.process.wait(STOP_SECONDS)


def test_an_answer_arrives_whole(server: Server) -> None:
    """Without a pause between words, too: the texts joined are the answer, and one `done` is the end."""
    first, *tokens, last = events(server.request("POST", "/chat/stream", QUESTION))
    assert (first[0], last) == ("status", ("done", {"reason": "end"}))
    assert {name for name, _ in tokens} == {"token"}
    assert "".join(data["text"] for _, data in tokens) == "You said: " + " ".join(WORDS)


def test_a_document_is_accepted_followed_and_done(project: Project, env: dict[str, str], server: Server) -> None:
    """202 and a place; events from there up to `done`; then the record with its result. A worker does it, if any."""
    with ExitStack() as stack:
        workers = []
        if (project.path / "app" / "worker.py").exists():
            command = (python_of(project), "-m", "app.worker")
            workers.append(stack.enter_context(running(*command, cwd=project.path, env=env)))
        posted = server.request(
            "POST", "/documents", json.dumps({"title": "A tale", "text": "to be or not to be " * 500})
        )
        assert posted.status == 202
        place = posted.headers["Location"]
        assert place == f"/jobs/{json.load(posted)['id']}"
        *states, done = events(server.request("GET", f"{place}/events"))
        assert done == ("done", {"reason": "end"})
        assert [data["state"] for _, data in states][-1] == "succeeded"
        record = json.load(server.request("GET", place))
        assert (record["status"], record["attempts"], record["error"]) == ("succeeded", 1, None)
        assert (record["result"]["title"], record["result"]["words"]) == ("A tale", 3000)
        assert {"term": "to", "count": 1000} in record["result"]["top_terms"]
        for worker in workers:
            assert worker.stop() == 0


def test_the_page_and_the_documentation_are_there(server: Server) -> None:
    """A browser that opens / finds the chat, and /docs what else is served."""
    for path, holds in {"/": "web/chat.js", "/docs": "openapi.json"}.items():
        response = server.request("GET", path)
        assert (response.status, response.headers.get_content_type()) == (200, "text/html")
        assert holds in response.read().decode()
    assert server.request("GET", "/web/chat.js").status == 200
    assert "/documents" in json.load(server.request("GET", "/openapi.json"))["paths"]


def test_a_setting_that_makes_no_sense_stops_the_start_by_its_name(project: Project) -> None:
    """A process says on stderr which setting it is, without the value and without a traceback: the worker where there
    is one, for app/main.py is the same bytes with each queue."""
    worker = (project.path / "app" / "worker.py").exists()
    command = ("-m", "app.worker") if worker else ("-m", "uvicorn", "app.main:app", "--port", "0")
    done = project.run(python_of(project), *command, env={"LOG_LEVEL": "s3cret"}, check=False)
    assert done.returncode != 0
    assert re.search(r"^LOG_LEVEL: ", done.stderr, re.MULTILINE), done.stderr
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr

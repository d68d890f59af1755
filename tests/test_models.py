"""The models as processes: each provider in a served render, in front of a service that we have not written.

That is LiteLLM's proxy, which answers without a model behind it and speaks both dialects. And sockets that say
when they were closed.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from model_services import asking
from rendering import Project, choices, exclusive, run
from running import START_SECONDS, Process, Server, free_port, posix_only, running, services, serving, wait_until

pytestmark = posix_only
LITELLM = "litellm[proxy]==1.108.7"
KEY = "sk-of-the-tests"
SECRET = "sk-wrong-and-secret"
ANSWER = "Streams carry each word as soon as it has been made."
NOTICED_SECONDS = 0.5
TRIES = 3
ASKED = json.dumps({"question": "Hi"})
MODELS = {
    "well": ANSWER,
    "limited": "litellm.RateLimitError",
    "broken": "litellm.InternalServerError",
    "too-long": "litellm.ContextWindowExceededError",
}
FAILS = {"limited": ("model_busy", True), "broken": ("model_error", True), "too-long": ("context_too_long", False)}


@pytest.fixture(params=[name for name in choices("model_provider") if name != "echo"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(provider: str, render: Callable[..., Project]) -> Project:
    project = render(model_provider=provider)
    project.sync()
    return project


@pytest.fixture(scope="session")
def litellm(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    """The proxy and its port. `translated-…` is asked in Anthropic's dialect, and asks the proxy itself in OpenAI's:
    its own mock answers don't stream in the former."""
    folder, venv = tmp_path_factory.mktemp("litellm"), shared / "litellm"
    with exclusive(shared / "litellm.lock"):
        if not venv.exists():
            made = run("uv", "venv", "--quiet", f"{venv}.new", cwd=shared)
            assert made.returncode == 0, made.stderr
            python = f"{venv}.new/bin/python"
            made = run("uv", "pip", "install", "--quiet", "--python", python, LITELLM, cwd=shared)
            assert made.returncode == 0, made.stderr
            Path(f"{venv}.new").rename(venv)
    port = free_port()
    itself = {"api_base": f"http://127.0.0.1:{port}/v1", "api_key": KEY}
    models = [
        *({"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "-", "mock_response": said}}
          for name, said in MODELS.items()),
        *({"model_name": f"translated-{name}", "litellm_params": {"model": f"hosted_vllm/{name}", **itself}}
          for name in MODELS),
    ]  # fmt: skip
    once = {"num_retries": 0, "disable_cooldowns": True}
    config = {"model_list": models, "general_settings": {"master_key": KEY}, "router_settings": once}
    (folder / "litellm.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = (str(venv / "bin" / "python"), str(venv / "bin" / "litellm"), "--host", "127.0.0.1", "--port", str(port))
    with running(*command, "--config", str(folder / "litellm.yaml"), cwd=folder, env=env) as process:
        process.printed("Uvicorn running on")
        yield process, port
        process.stop()


@contextmanager
def in_front_of(port: int, project: Project, model: str = "m", key: str = KEY, **settings: str) -> Iterator[Server]:
    """The project, asking for that model of what listens at that port."""
    asked = asking(project.answers["model_provider"], model, port, key)
    with services(project) as env, serving(project, env, **asked, **settings) as server:
        yield server


def answer(server: Server) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    response = server.request("POST", "/chat/stream", ASKED)
    assert response.status == 200
    found = re.findall(r"event: (\w+)\n(?:id: \d+\n)?data: (.*)\n", response.read().decode())
    return [(name, json.loads(data)) for name, data in found]


@pytest.mark.slow
@pytest.mark.xdist_group("litellm")
def test_a_service_that_others_wrote_is_understood(
    provider: str, project: Project, litellm: tuple[Process, int]
) -> None:
    """An answer with its usage; a rate limit and a fault, each tried again as often as the setting says; a conversation
    that is too long; a wrong key, which no log shows."""
    of = "translated-" if provider == "anthropic" else ""
    process, port = litellm
    with in_front_of(port, project, f"{of}well") as server:
        status, *tokens, done = answer(server)
        assert (status[0], done) == ("status", ("done", {"reason": "end"}))
        assert len(tokens) > 1
        assert "".join(data["text"] for _, data in tokens) == ANSWER
        counted = server.process.printed(rf"usage stream=\w+ model={of}well reason=end outcome=end (.*) caller=")[1]
        assert re.fullmatch(r"first_piece_seconds=[\d.]+ input_tokens=\d+ output_tokens=[1-9]\d* chars=\d+", counted)
    for name, (code, retryable) in FAILS.items():
        before = len(requests(process, provider))
        with in_front_of(port, project, f"{of}{name}", MODEL_MAX_RETRIES="1") as server:
            _, error, done = answer(server)
            assert done == ("done", {"reason": "error"})
            assert (error[1]["code"], error[1]["retryable"]) == (code, retryable)
            assert "litellm" not in json.dumps(error).lower()
            server.process.printed("the model failed: .*litellm")
        # It answers before it writes its line.
        wait_until(lambda: len(requests(process, provider)) - before > retryable)  # noqa: B023 - called here alone
        assert len(requests(process, provider)) - before == 1 + retryable
    with in_front_of(port, project, f"{of}well", SECRET) as server:
        _, error, done = answer(server)
        # It asks its database for such a key. Without one it answers 400, and no word about keys.
        assert (error[1]["code"], error[1]["retryable"]) == ("model_error", False)
        server.process.printed("the model failed: ")
        server.process.stop()
        assert SECRET not in server.process.text


def requests(litellm: Process, provider: str) -> list[str]:
    """Those that the proxy has logged, in this dialect."""
    path = "/v1/messages" if provider == "anthropic" else "/v1/chat/completions"
    return re.findall(rf'"POST {path} HTTP', litellm.text)


class Slow:
    """A service that begins an answer, says no more, and notes when its client has gone; then it takes the next."""

    def __init__(self, *begins: str) -> None:
        self.closed = threading.Event()
        self.closed_at = 0.0
        self._begins = begins
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with client:
                client.recv(65536)
                head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                chunks = "".join(f"{len(piece):x}\r\n{piece}\r\n" for piece in self._begins)
                client.sendall((head + chunks).encode())
                while client.recv(65536):
                    pass
                self.closed_at = time.monotonic()
                self.closed.set()

    def close(self) -> None:
        with suppress(OSError):  # macOS has no such thing for a listener
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()


def piece(provider: str) -> str:
    """The first of an answer, as the service says it."""
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}
    if provider == "anthropic":
        return f"event: content_block_delta\ndata: {json.dumps(delta)}\n\n"
    return 'data: {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": null}]}\n\n'


def leaves(server: Server, response: Any) -> None:
    response.close()


def is_told_to_stop(server: Server, response: Any) -> None:
    server.process.stop()


def stops_it(server: Server, response: Any) -> None:
    assert server.request("DELETE", response.headers["Location"]).status == 202


def seconds_until_closed(what: Callable[[Server, Any], None], server: Server, service: Slow) -> tuple[float, float]:
    """From there to the moment at which the service saw it; and how long the server takes for an answer."""
    service.closed.clear()
    response = server.request("POST", "/chat/stream", ASKED)
    while b"Hel" not in response.readline():
        pass
    began = time.monotonic()
    assert server.request("GET", "/health").read()
    turn = time.monotonic() - began
    began = time.monotonic()
    what(server, response)
    assert service.closed.wait(START_SECONDS)
    return service.closed_at - began, turn


def test_the_service_sees_its_connection_closed_when_nobody_reads_on(provider: str, project: Project) -> None:
    """The reader leaves, a reader stops the answer, the server stops: within half a second, for what the service goes
    on making is paid for. A busy machine has a few tries, and twenty times what its server takes for an answer."""
    left, late = [leaves, stops_it, is_told_to_stop], []
    for _ in range(TRIES):
        with (
            closing(Slow(piece(provider))) as service,
            in_front_of(service.port, project, DRAIN_SECONDS="0", ANSWER_GRACE_SECONDS="0") as server,
        ):
            for what in left[:]:
                seconds, turn = seconds_until_closed(what, server, service)
                if seconds <= max(NOTICED_SECONDS, 20 * turn):
                    left.remove(what)
                else:
                    late.append((what.__name__, seconds))
        if not left:
            return
    pytest.fail(f"the service noticed too late: {late}")


def test_without_a_key_the_start_is_refused_with_the_way_out(provider: str, project: Project) -> None:
    """One line on stderr names the setting, and what runs without it; that does run."""
    with services(project) as env:
        del env["MODEL_PROVIDER"]
        done = run(str(project.path / ".venv/bin/python"), "-m", "uvicorn", "app.main:app", cwd=project.path, env=env)
        assert done.returncode == 1
        key = "ANTHROPIC_API_KEY" if provider == "anthropic" else "OPENAI_API_KEY"
        says = f"{key}: must be set; MODEL_PROVIDER=echo runs without one"
        assert done.stderr == f"Settings that need a look (environment or .env); then start again:\n{says}\n"
        with serving(project, env, MODEL_PROVIDER="echo") as server:
            assert answer(server)[-1] == ("done", {"reason": "end"})

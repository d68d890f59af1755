"""The image that the Dockerfile makes, in containers that may do as little as compose.yaml allows: it starts, does its
work, and stops, whenever it is told to."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from containers import Container, Podman
from rendering import Project
from running import START_SECONDS, free_port, request, services, wait_until
from test_docker import COMPILED, instructions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("podman", "catatonit", "mmdebstrap"),
    pytest.mark.xdist_group("containers"),
]
LOOKS = """
import os, tempfile
print(os.getuid(), *(line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")))
for path in ("/", "/srv", "/srv/app"):
    try:
        open(path + "/written", "w")
    except OSError as error:
        print(type(error).__name__)
tempfile.TemporaryFile()
"""


@pytest.fixture(scope="module")
def podman(shared: Path) -> Iterator[Podman]:
    folder = shared / "podman"
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="podman-", dir="/tmp") as run:
        podman = Podman(folder, Path(run))
        yield podman
        podman.forget()


class Built:
    """A project's image, and what its settings need."""

    def __init__(self, project: Project, podman: Podman, env: dict[str, str]) -> None:
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(project.read("compose.yaml"))["services"]
        self.settings = {key: env[key] for key in ("MODEL_PROVIDER", "REDIS_URL") if key in env}
        self.user = int(dict(instructions(project.read("Dockerfile")))["USER"])
        self._command: list[str] = json.loads(dict(instructions(project.read("Dockerfile")))["CMD"])
        self._podman = podman
        podman.build(project, self.services["web"]["image"])

    @contextmanager
    def started(self, name: str, port: int = 0, **settings: str) -> Iterator[Container]:
        """The web server or a worker, by its own command, but for the port, which may be taken on this machine."""
        command = [word.replace("8000", str(port)) for word in self._command] if name == "web" else []
        with self._podman.running(self.services[name], *command, env=self.settings | settings) as container:
            yield container

    @contextmanager
    def serving(self, **settings: str) -> Iterator[tuple[Container, int]]:
        """A web server that listens, and its port."""
        port = free_port()
        with self.started("web", port, **settings) as container:
            container.printed("Uvicorn running")
            yield container, port


# Celery writes to files of its own, and Dramatiq shares memory among its processes.
DURABLE = ["rq", "celery-redis", "dramatiq-redis"]


@pytest.fixture(scope="module", params=["none", *DURABLE])
def built(request: pytest.FixtureRequest, render: Callable[..., Project], podman: Podman) -> Iterator[Built]:
    project = render(queue_backend=request.param)
    project.sync()
    with services(project) as env:
        yield Built(project, podman, env)


def test_it_is_compiled_and_confined_and_healthy(built: Built) -> None:
    """Nothing of the standard library, the environment or the code has to be compiled at a start."""
    with built.serving() as (web, port):
        assert request(port, "GET", "/health").status == 200
        _, *check = built.services["web"]["healthcheck"]["test"]
        assert web.run(*(word.replace(":8000/", f":{port}/") for word in check)).returncode == 0
        assert web.run(*(word.replace(":8000/", ":9/") for word in check)).returncode != 0
        modules = ["app.main", "urllib.request", *(["app.worker"] if "worker" in built.services else [])]
        compiled = web.run("python", "-c", COMPILED, *modules)
        assert (compiled.returncode, compiled.stdout) == (0, ""), compiled.stderr
        looked = web.run("python", "-c", LOOKS)
        assert looked.returncode == 0, looked.stderr
        user, *said = looked.stdout.split()
        assert int(user) == built.user
        assert said == ["0" * 16] * 5 + ["OSError"] * 3
        assert "No module named 'pytest'" in web.run("python", "-c", "import pytest").stderr


def test_it_stops_when_it_has_hardly_begun(built: Built) -> None:
    """Python as process 1 would ignore a SIGTERM that comes before it has a handler, and be killed much later."""
    for name in {"web", "worker"} & built.services.keys():
        with built.started(name) as container:
            time.sleep(0.5)
            container.send()
            assert container.wait() in (0, 143)


def test_a_stream_that_is_open_gets_its_end(built: Built) -> None:
    with built.serving(DRAIN_SECONDS="1", ECHO_TOKEN_SECONDS="0.1") as (web, port):
        answer = request(port, "POST", "/chat/stream", json.dumps({"question": "word " * 1000}))
        while b"token" not in answer.readline():
            pass
        web.send()
        assert answer.read().decode().rstrip().endswith('event: done\ndata: {"reason":"shutdown"}')
        assert web.wait() == 143
        assert "Traceback" not in web.text


@pytest.mark.parametrize("built", DURABLE, indirect=True)
def test_a_worker_that_is_stopped_finishes_its_job(built: Built) -> None:
    """At the first attempt. Its own check says that it is alive."""
    large = {"MAX_BODY_BYTES": str(16 * 2**20)}
    with built.serving(**large) as (_, port), built.started("worker") as worker:
        check = built.services["worker"]["healthcheck"]["test"][1:]
        wait_until(lambda: worker.run(*check).returncode == 0)
        text = "To be, or not to be, that is the question. " * 200_000
        accepted = request(port, "POST", "/documents", json.dumps({"title": "Hamlet", "text": text}))
        path = accepted.headers["Location"]

        def job() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(request(port, "GET", path).read())
            return found

        wait_until(lambda: job()["status"] == "running")
        worker.send()
        assert job()["status"] == "running"
        assert worker.wait(START_SECONDS) in (0, 143)
        ended = job()
        assert (ended["status"], ended["attempts"]) == ("succeeded", 1), worker.text
        assert ended["result"]["words"] == 200_000 * 10
        assert "Traceback" not in worker.text


def test_a_setting_that_is_wrong_is_all_that_it_says(built: Built) -> None:
    for name in {"web", "worker"} & built.services.keys():
        with built.started(name, LOG_LEVEL="LOUD") as container:
            assert container.wait() != 0
            says, line = container.text.splitlines()
            assert says.startswith("Settings that need a look")
            assert re.match("LOG_LEVEL: .*'DEBUG'", line)

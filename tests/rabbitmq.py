"""A RabbitMQ of this test run's own, as Debian installs it, by whoever runs the tests, root or not.

Each has its own home, node name, ports and folders, and its own epmd, so that several stand side by side and none meets
one that the machine may run as a service.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from needs import NEEDS
from rendering import exclusive

START_SECONDS = 90.0
STOP_SECONDS = 30.0
FOLDER = "TEMPLATE_TESTS_RABBITMQ"  # an environment variable, for pytest-xdist's workers to find the run's own server
STARTED: dict[int, "subprocess.Popen[bytes]"] = {}  # by this process; the run's own server outlives who asked for it
GREETING = b"AMQP\x00\x00\x09\x01"  # the protocol header of AMQP 0-9-1, section 4.2.2


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class RabbitMQ:
    """A server with its data in the folder. It can be killed, and started again on what it has kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("home", "mnesia", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        kept = folder / "ports"
        if not kept.exists():
            kept.write_text(" ".join(map(str, free_ports(3))))
        self.port, self._distribution, self._epmd = map(int, kept.read_text().split())
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self._log = folder / "output"

    def start(self) -> int:
        """Give its process, whose session all of its processes belong to, once it answers."""
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "log.file = false\n"
            "disk_free_limit.absolute = 50MB\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._program("rabbitmq-server")],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        STARTED[process.pid] = process
        (self.folder / "pid").write_text(str(process.pid))
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert process.poll() is None, f"RabbitMQ ended:\n{self._log.read_text()}"
            assert time.monotonic() < deadline, f"RabbitMQ does not answer:\n{self._log.read_text()}"
            time.sleep(0.05)
        return process.pid

    def kill(self) -> None:
        """With all that it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid := int((self.folder / "pid").read_text()), signal.SIGKILL)
            if pid in STARTED:
                STARTED.pop(pid).wait()
        while self._answers():
            time.sleep(0.01)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Its connections stay, and nothing is answered."""
        group = int((self.folder / "pid").read_text())
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def stop(self) -> None:
        """Nothing of what it has kept will be read again."""
        self.kill()
        epmd = shutil.which("epmd")
        if epmd:
            subprocess.run([epmd, "-port", str(self._epmd), "-kill"], capture_output=True, check=False)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(5)
            connection.sendall(GREETING)
            return connection.recv(1) == b"\x01"  # the first frame of `connection.start`
        return False

    def _program(self, name: str) -> str:
        # Debian's /usr/sbin has a wrapper of the same name, which refuses everybody but its own user and root.
        direct = Path("/usr/lib/rabbitmq/bin", name)
        found = str(direct) if direct.exists() else NEEDS["rabbitmq"].path()
        assert found
        return found

    def _env(self) -> dict[str, str]:
        folder = self.folder
        return {
            **os.environ,
            "HOME": str(folder / "home"),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # else it refuses to end while it remembers a node that was killed
            "RABBITMQ_NODENAME": f"template{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "server.pid"),
            # One scheduler, which sleeps when it has nothing to do: the cores are for what is tested.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[RabbitMQ]:
    server = RabbitMQ(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def shared_url() -> str:
    """Of the run's own server, which the first who asks starts; who asks in vain is skipped."""
    if NEEDS["rabbitmq"].path() is None:
        pytest.skip("RabbitMQ is not on this machine")
    folder = Path(os.environ[FOLDER])
    with exclusive(folder / "lock"):
        server = RabbitMQ(folder / "server")
        if not (folder / "server" / "pid").exists():
            server.start()
    return server.url


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="rabbitmq-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and FOLDER in os.environ:
        folder = Path(os.environ.pop(FOLDER))
        if (folder / "server" / "pid").exists():
            RabbitMQ(folder / "server").stop()
        shutil.rmtree(folder, ignore_errors=True)

"""Podman, with images and containers of these tests alone: what a project's Dockerfile says is built, and what
compose.yaml says is run.

No registry of images is asked. The base image is made of this system's own packages, unpacked and not configured: it
has another Python than the Dockerfile names, and as little bytecode as Docker's image of Python.
"""

import json
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from front_ends import SYSTEM_CERTIFICATES
from needs import NEEDS
from rendering import EXCLUDE_NEWER, Project, run
from running import STOP_SECONDS, wait_until

# With the time zones and the names of protocols, as Docker's image has them.
PACKAGES = "base-files,base-passwd,coreutils,dash,netbase,passwd,python-is-python3,python3-pip,tzdata"
# What their scripts would have done that is needed, and what makes of a system's pip one that a container has.
COMPLETED = [
    *(f'cp "$1/usr/share/base-passwd/{name}.master" "$1/etc/{name}"' for name in ("passwd", "group")),
    'rm -f "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED',
]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
APT = Path("/etc/apt")
SOURCES = [APT / "sources.list.d/debian.sources", APT / "sources.list.d/ubuntu.sources", APT / "sources.list"]
# What an owner's mirror needs comes with the base image, as it would with a company's own.
MIRROR = re.compile(r"(PIP|UV)_((DEFAULT_|EXTRA_)?INDEX(_URL)?|TRUSTED_HOST|INSECURE_HOST)")
ENVIRONMENT = {"UV_SYSTEM_CERTS": "true", "PIP_ROOT_USER_ACTION": "ignore", "UV_EXCLUDE_NEWER": EXCLUDE_NEWER}
HYBRID = Path("/sys/fs/cgroup/unified")  # both kinds of control groups: crun, which Debian's podman takes, refuses that
LIMIT = "4096:4096"  # podman would raise the limits of files and processes, which not every machine's root may do


class Podman:
    def __init__(self, folder: Path, run: Path) -> None:
        """`run` is short: podman 4 takes 50 characters at most for what it keeps while it runs."""
        program = NEEDS["podman"].path()
        assert program
        self._folder = folder
        self._command = [program, "--root", str(folder / "store"), "--runroot", str(run)]
        if HYBRID.is_dir():
            self._command += ["--runtime", "runc"]

    def run(
        self, *words: str, check: bool = True, cwd: Path | None = None, seconds: float = 900
    ) -> "subprocess.CompletedProcess[str]":
        done = run(*self._command, *words, cwd=cwd or self._folder, seconds=seconds)
        assert not check or done.returncode == 0, f"podman {shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def make_base(self, name: str) -> None:
        """Unless it is there."""
        if self.run("image", "exists", name, check=False).returncode == 0:
            return
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        # This machine's own sources: by itself it asks no mirror of a company's, and of Ubuntu's packages only "main".
        told = [each for each in SOURCES if each.is_file() and re.search(r"(?m)^(deb |URIs:)", each.read_text("utf-8"))]
        hooks = [*COMPLETED, f'install -D {shlex.quote(str(SYSTEM_CERTIFICATES))} "$1{CERTIFICATES}"']
        options = ["--variant=extract", f"--include={PACKAGES}", *(f"--extract-hook={hook}" for hook in hooks)]
        made = run("mmdebstrap", *options, suite, "base.tar", *map(str, told), cwd=self._folder)
        assert made.returncode == 0, made.stderr
        kept = {key: value for key, value in os.environ.items() if MIRROR.fullmatch(key)}
        changes = [
            f"ENV {key}={json.dumps(value).replace('$', chr(92) + '$')}" for key, value in (ENVIRONMENT | kept).items()
        ]
        self.run("import", "--quiet", *(word for each in changes for word in ("--change", each)), "base.tar", name)
        (self._folder / "base.tar").unlink()

    def build(self, project: Project, name: str) -> None:
        """As `docker compose build` would: with the project's Dockerfile, as it is."""
        dockerfile = project.read("Dockerfile")
        for base in set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)):
            self.make_base(f"docker.io/library/{base}")
        self.run("build", "--network", "host", "--pull-never", "--tag", name, ".", cwd=project.path)

    def forget(self) -> None:
        """All images, which are large."""
        self.run("rmi", "--all", "--force")

    @contextmanager
    def running(self, service: Mapping[str, Any], *command: str, env: Mapping[str, str]) -> Iterator["Container"]:
        """What a service of compose.yaml says, with other settings, on this machine's network."""
        name = f"test-{uuid4().hex[:12]}"
        options = ["--name", name, "--network", "host", "--ulimit", f"nofile={LIMIT}", "--ulimit", f"nproc={LIMIT}"]
        options += [f"--{key.replace('_', '-')}" for key in ("init", "read_only") if service.get(key)]
        for key, option in (("tmpfs", "--tmpfs"), ("cap_drop", "--cap-drop"), ("security_opt", "--security-opt")):
            options += [word for value in service.get(key, []) for word in (option, value)]
        options += [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        self.run("run", "--detach", *options, service["image"], *(command or service.get("command", [])))
        try:
            yield Container(self, name)
        finally:
            self.run("rm", "--force", "--time", "0", name)


class Container:
    def __init__(self, podman: Podman, name: str) -> None:
        self._podman = podman
        self.name = name

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Beside its process."""
        return self._podman.run("exec", self.name, *command, check=False)

    @property
    def text(self) -> str:
        """All that it has printed so far."""
        done = self._podman.run("logs", self.name)
        return done.stdout + done.stderr

    def printed(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed this."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            ended = not self.alive
            text = self.text
            found.extend(re.finditer(pattern, text))
            assert found or not ended, f"no {pattern!r} in what was printed:\n{text}"
            return bool(found)

        wait_until(look)
        return found[0]

    @property
    def alive(self) -> bool:
        return self._state()["Running"] is True

    def send(self, number: str = "TERM") -> None:
        self._podman.run("kill", "--signal", number, self.name)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Give the status with which it ends; fail when that takes longer."""
        try:
            self._podman.run("wait", self.name, seconds=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds:g} s:\n{self.text}") from None
        return int(self._state()["ExitCode"])

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._podman.run("inspect", "--format", "{{json .State}}", self.name).stdout)
        return state

"""Renders the template as a user would, for the tests that look at or run what comes out."""

import atexit
import importlib.util
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
QUESTIONS: dict[str, Any] = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
# The template's own date, so that a render locks to the same versions every day.
EXCLUDE_NEWER = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["exclude-newer"]
UTF8 = {"PYTHONUTF8": "1"}  # a pipe has no encoding of its own
CHECKED_HASH = 0b11  # the flags of bytecode that holds for a source of one hash, by PEP 552
MADE_BY_TOOLS = {".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__", "uv.lock"}

Answers = Mapping[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def choices(question: str) -> list[str]:
    """The answers that a question offers, the default first."""
    return list(QUESTIONS[question])


def asked() -> list[str]:
    """The questions, in the order of the prompts."""
    return [question for question in QUESTIONS if not question.startswith("_")]


def combinations() -> list[Answers]:
    """Every choice with every other, the defaults first."""
    lists = [question for question in asked() if isinstance(QUESTIONS[question], list)]
    return [dict(zip(lists, each, strict=True)) for each in product(*map(choices, lists))]


@cache
def pairwise() -> list[Answers]:
    """So many combinations that each two choices of different questions meet in one of them."""
    every, found, met = combinations(), list[Answers](), set[Pair]()
    while missing := [answers for answers in every if pairs(answers) - met]:
        found.append(max(missing, key=lambda answers: len(pairs(answers) - met)))
        met |= pairs(found[-1])
    return found


@cache
def varied() -> list[Answers]:
    """One for each queue, each choice of the other questions among them, as different from each other as can be."""
    found, seen, met = list[Answers](), set[tuple[str, str]](), set[Pair]()
    for queue in choices("queue_backend"):
        of_queue = [answers for answers in pairwise() if answers["queue_backend"] == queue]
        found.append(max(of_queue, key=lambda answers: (len(answers.items() - seen), len(pairs(answers) - met))))
        seen |= found[-1].items()
        met |= pairs(found[-1])
    return found


def in_order() -> list[Answers]:
    """The pairwise set, those of `varied` first: without a queue, with RQ, and so on."""
    return [*varied(), *(answers for answers in pairwise() if answers not in varied())]


def first_or_slow(number: int, several: Sequence[Any]) -> list[Any]:
    """Parameters: so many of the first always run, and the others where slow tests do."""
    return [*several[:number], *(pytest.param(each, marks=pytest.mark.slow) for each in several[number:])]


def grouped(several: Sequence[Answers]) -> list[Any]:
    """Parameters: those tests of each that run stay in one process, and share what it has started."""
    return [pytest.param(answers, marks=pytest.mark.xdist_group(named(answers))) for answers in several]


def pairs(answers: Answers) -> set[Pair]:
    return set(itertools.combinations(answers.items(), 2))


def named(answers: Answers) -> str:
    return "-".join(answers.values())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would tie a command to the template's own tools and test run."""
    dropped = {"VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("PYTEST_")}
    if uv := shutil.which(kept.get("UV", "")):
        kept["PATH"] = kept["PATH"] + os.pathsep + str(Path(uv).parent)
    return kept | {"UV_EXCLUDE_NEWER": EXCLUDE_NEWER} | dict(extra or {})


@contextmanager
def exclusive(lock: Path, seconds: float = 300) -> Iterator[None]:
    """Hold a lock file that other test processes wait for."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except (FileExistsError, PermissionError):  # Windows denies while another process removes it
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink()


@dataclass(frozen=True)
class Project:
    """A rendered project, and what was said when it was."""

    path: Path
    answers: Mapping[str, str]
    said: str = ""

    def files(self) -> list[str]:
        """What the template emitted, sorted; not what tools made later."""
        found = []
        for folder, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if name not in MADE_BY_TOOLS]  # an environment has thousands
            found += [os.path.join(folder, name) for name in names if name not in MADE_BY_TOOLS]
        return sorted(name[len(str(self.path)) + 1 :].replace(os.sep, "/") for name in found)

    @property
    def python(self) -> str:
        """Its own interpreter."""
        return str(self.path / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    def read(self, path: str) -> str:
        return (self.path / path).read_text("utf-8")

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, check: bool = True, seconds: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; with `check`, fail with what it printed when it fails."""
        done = run(*command, cwd=self.path, env=env, seconds=seconds)
        assert not check or done.returncode == 0, f"{command} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def sync(self) -> None:
        """Install what uv.lock says: once, however many tests and processes ask.

        The template's hook asks the package index once, for who is offline should not wait. Where that has failed, this
        does what it tells its user to do: uv itself tries again."""
        synced = self.path.with_suffix(".synced")
        with exclusive(self.path.with_suffix(".lock")):
            if not synced.exists():
                if not (self.path / "uv.lock").exists():
                    self.run("uv", "lock")
                self.run("uv", "sync", "--locked")
                self._compile(self.path.parents[1] / "bytecode")
                synced.touch()

    def _compile(self, pool: Path) -> None:
        """Compile what it has installed, but for what another project has brought to the pool: the first process of
        each project would else take several times as long to start, or several processes at once.

        pytest has bytecode of its own, of tests and of its plugins. The first project brings most of it."""
        with exclusive(pool.with_suffix(".lock")):
            (installed,) = (self.path / ".venv").glob("[Ll]ib/**/site-packages")
            # Of two renders made in one second, a time does not tell the files apart: of tests, what goes by a hash.
            places = [(pool / "installed", installed, ""), (pool / "tests", self.path / "tests", "-pytest-")]
            known, first = pool / "known", not pool.exists()
            known.mkdir(parents=True, exist_ok=True)
            for kept, folder, _ in places:
                _take(kept, folder)
            new = {path.name for path in installed.glob("*.dist-info")} - {*os.listdir(known)}
            if new:
                left_out = r"[\\/]mypyc?[\\/]"
                self.run(self.python, "-m", "compileall", "-q", "-x", left_out, str(installed), check=False)
            if first:
                collects = ("pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
                self.run(self.python, "-m", *collects, check=False)
            for kept, folder, part in places:
                _keep(kept, folder, part)
            for name in new:
                (known / name).touch()


def _take(pool: Path, folder: Path) -> None:
    """Link what the pool has of the sources in the folder."""
    for path, _, names in os.walk(pool):
        target = folder / Path(path).relative_to(pool)
        if target.name == "__pycache__" and target.parent.is_dir():
            target.mkdir(exist_ok=True)
            for name in names:
                if _is_of(f"{path}/{name}", f"{target.parent}/{name.partition('.')[0]}.py"):
                    os.link(f"{path}/{name}", f"{target}/{name}")


def _keep(pool: Path, folder: Path, part: str) -> None:
    """Link what the pool does not have yet, of the files whose names have this part."""
    for path, _, names in os.walk(folder):
        kept = pool / Path(path).relative_to(folder)
        if kept.name == "__pycache__":
            kept.mkdir(parents=True, exist_ok=True)
            for name in {name for name in names if part in name} - {*os.listdir(kept)}:
                os.link(f"{path}/{name}", f"{kept}/{name}")


def _is_of(compiled: str, source: str) -> bool:
    """Whether it is this source's bytecode, as Python itself would see it: by the time and the size that it notes; or
    by a hash, as pytest does."""
    with open(compiled, "rb", buffering=0) as file:
        header = file.read(16)
    magic, flags, seconds, size = struct.unpack("<4sIII", header)
    if magic != importlib.util.MAGIC_NUMBER or not os.path.exists(source):
        return False
    if flags == CHECKED_HASH:
        return importlib.util.source_hash(Path(source).read_bytes()) == header[8:]
    found = os.stat(source)
    return (flags, seconds, size) == (0, int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def run(
    *command: str, cwd: Path, env: Mapping[str, str] | None = None, typed: str = "", seconds: float = 900
) -> subprocess.CompletedProcess[str]:
    env = environment(env)
    program = shutil.which(command[0], path=env["PATH"]) or command[0]
    return subprocess.run(
        [program, *command[1:]], cwd=cwd, env=env, input=typed, capture_output=True, encoding="utf-8", timeout=seconds
    )


def snapshot(destination: Path) -> Path:
    """Copy the template as a clone would have it: a stray cache in the working tree breaks a render."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, encoding="utf-8")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)
    # Cookiecutter keeps clones and answers in the home folder unless it is told where else.
    kept = {"cookiecutters_dir": str(destination) + "-clones", "replay_dir": str(destination) + "-replay"}
    destination.with_suffix(".yaml").write_text(json.dumps(kept), "utf-8")
    return destination


def cookiecutter(
    output_dir: Path,
    answers: Mapping[str, str],
    template: Path,
    *options: str,
    typed: bool = False,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run cookiecutter into `output_dir`, with the answers as arguments or, if `typed`, at its prompts."""
    arguments = [str(template), "--config-file", str(template.with_suffix(".yaml")), *options]
    if not typed:
        arguments += ["--no-input", *(f"{question}={answer}" for question, answer in answers.items())]
    lines = "".join(answers.get(question, "") + "\n" for question in asked()) if typed else ""
    # Cookiecutter leaves the hooks that it rendered in the temporary folder.
    env = {"TMPDIR": str(template.parent), **(env or {})}
    if hasattr(os, "fork") and not any(name.startswith("PYTHON") for name in env):
        return _forked(arguments, output_dir, environment(UTF8 | env), lines)
    return run(sys.executable, "-m", "cookiecutter", *arguments, cwd=output_dir, env=UTF8 | env, typed=lines)


def _forked(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str], typed: str
) -> subprocess.CompletedProcess[str]:
    """What `python -m cookiecutter` would do, without its start."""
    with TemporaryDirectory() as scratch:
        files = [Path(scratch, name) for name in ("stdin", "stdout", "stderr")]
        for file in files:
            file.write_text(typed if file.name == "stdin" else "", "utf-8")
        asked = {"arguments": arguments, "folder": str(folder), "environment": env, "files": [*map(str, files)]}
        process = _cookies()
        assert process.stdin
        assert process.stdout
        print(json.dumps(asked), file=process.stdin, flush=True)
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(file.read_text("utf-8") for file in files[1:]))


@cache
def _cookies() -> "subprocess.Popen[str]":
    """A process that has imported cookiecutter: for most renders, that would take longer than anything else."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("cookies.py"))],
        env=environment(UTF8),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # a Ctrl-C is for the tests, and with them its stdin ends
    )
    atexit.register(process.communicate)
    return process


def bake(
    output_dir: Path,
    answers: Mapping[str, str] | None = None,
    template: Path | None = None,
    *,
    typed: bool = False,
    env: Mapping[str, str] | None = None,
) -> Project:
    """Render a project into the new folder `output_dir`; when that fails, fail with what was printed."""
    output_dir.mkdir()
    template = template or snapshot(output_dir.with_name(f"{output_dir.name}-template"))
    done = cookiecutter(output_dir, answers or {}, template, typed=typed, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = output_dir.iterdir()
    return Project(path, answers or {}, done.stdout)

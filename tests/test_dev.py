"""dev.py as a newcomer meets it: on a machine with Python, pip and git, and without any of what it brings."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from needs import ordered
from rabbitmq import shared_url
from rendering import ROOT, choices, environment, snapshot

sys.path.insert(0, str(ROOT))  # `pytest` alone, unlike `python -m pytest`, leaves the repo's folder out

import dev

# The Python below this environment: a newcomer's has pip, which an environment made by uv has not.
PYTHON = Path(sys.base_prefix, "python.exe" if os.name == "nt" else f"bin/python3.{sys.version_info.minor}")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="uses signals or scripts as programs")


def bare(folder: Path, **extra: str) -> dict[str, str]:
    """An environment with an empty home folder, and with nothing but git in its PATH."""
    (folder / "home").mkdir(parents=True)
    (folder / "bin").mkdir()
    git = Path(shutil.which("git") or "git")
    if sys.platform != "win32":
        (folder / "bin" / "git").symlink_to(git)
        git = folder / "bin" / "git"
    home = {"HOME": str(folder / "home"), "USERPROFILE": str(folder / "home")}
    kept = {name: value for name, value in environment().items() if name != "UV"}
    return kept | home | {"PATH": str(git.parent), "PYTHONUTF8": "1"} | extra


def fake_uv(folder: Path, says: str) -> str:
    """A program called uv that answers every call with one line."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        (folder / "uv.bat").write_text(f"@echo {says}\n")
        return str(folder / "uv.bat")
    (folder / "uv").write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / "uv").chmod(0o755)
    return str(folder / "uv")


def run(*arguments: str, cwd: Path, env: Mapping[str, str], python: Path = PYTHON) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=120)


FIND_UV = ("-c", "import dev; print(dev.find_uv('[1/3]'))")


def test_without_arguments_it_says_what_it_can_do(tmp_path: Path) -> None:
    """`python3 dev.py` names both commands and fails at nothing."""
    done = run("dev.py", cwd=ROOT, env=bare(tmp_path))
    assert done.returncode == 0
    assert re.search(r"^ +demo ", done.stdout, re.MULTILINE)
    assert re.search(r"^ +test ", done.stdout, re.MULTILINE)


def test_the_queues_are_those_of_the_template(tmp_path: Path) -> None:
    """`--queue` offers what cookiecutter.json offers, and refuses the rest by naming them."""
    done = run("dev.py", "demo", "--queue", "postcards", cwd=ROOT, env=bare(tmp_path))
    assert done.returncode == 2
    assert all(queue in done.stderr for queue in choices("queue_backend"))


def test_uv_comes_from_the_variable_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uv named by UV is taken before the one that the PATH holds."""
    on_path = fake_uv(tmp_path / "path", "uv 0.13.0")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("UV", raising=False)
    assert os.path.samefile(dev.find_uv("[1/3]"), on_path)
    named = fake_uv(tmp_path / "named", "uv 0.13.0")
    monkeypatch.setenv("UV", named)
    assert os.path.samefile(dev.find_uv("[1/3]"), named)


def test_a_variable_uv_that_names_no_uv_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UV is somebody's wish: where it cannot be met, nothing else is taken in its place."""
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    with pytest.raises(dev.TroubleError, match="unset it"):
        dev.find_uv("[1/3]")


@posix_only  # a script named uv.exe does not run
@pytest.mark.parametrize("says", ["command not found", "uv 0.4.30"], ids=["a shim", "an old one"])
def test_a_uv_that_cannot_do_it_is_passed_over(says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version manager's shim for no uv, and one too old, do not stand in the way of the one in .tools."""
    fake_uv(tmp_path / "path", says)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    (tmp_path / ".tools" / "uv" / f"uv-{dev.UV_VERSION}.dist-info").mkdir(parents=True)
    brought = fake_uv(tmp_path / ".tools" / "uv" / "bin", f"uv {dev.UV_VERSION}")
    assert dev.find_uv("[1/3]") == brought


@pytest.mark.parametrize(
    ("says", "does"), [("uv 0.13.9 (a build)", True), ("uv 1.0.0", True), ("uv 0.4.30", False), ("no such uv", False)]
)
def test_what_counts_as_a_uv(says: str, does: bool, tmp_path: Path) -> None:
    """A uv runs, and its version is one that knows what is asked of it."""
    assert dev.works(fake_uv(tmp_path, says)) is does


def test_pip_brings_uv_once(tmp_path: Path) -> None:
    """With no uv in the PATH, pip installs the pinned one into a folder that git ignores, and the next run takes it."""
    shutil.copy(ROOT / "dev.py", tmp_path)
    env = bare(tmp_path / "machine", PIP_USER="1", PIP_REQUIRE_VIRTUALENV="1")
    first, second = (run(*FIND_UV, cwd=tmp_path, env=env) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "bringing uv" in first.stdout
    assert "bringing" not in second.stdout
    uv = second.stdout.strip()
    assert Path(uv).is_relative_to(tmp_path / ".tools" / "uv")
    said = subprocess.check_output([uv, "--version"], text=True)
    assert said.split()[1] == dev.UV_VERSION
    assert [entry.name for entry in (tmp_path / ".tools").iterdir()] == ["uv"]


def test_no_way_to_the_package_index_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Where uv cannot be fetched, the last line says what to do, and no traceback is shown."""
    for name in ("dev.py", "cookiecutter.json"):
        shutil.copy(ROOT / name, tmp_path)
    done = run("dev.py", "test", cwd=tmp_path, env=bare(tmp_path / "machine", PIP_NO_INDEX="1", PIP_FIND_LINKS=""))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dev.py: bringing uv failed")
    assert "check the network" in done.stderr


def test_neither_uv_nor_pip_is_told_in_a_sentence(tmp_path: Path) -> None:
    """A Python without pip on a machine without uv is told which two things would help."""
    for name in ("dev.py", "cookiecutter.json"):
        shutil.copy(ROOT / name, tmp_path)
    venv.create(tmp_path / "venv", with_pip=False)
    done = run("dev.py", "test", cwd=tmp_path, env=bare(tmp_path / "machine"), python=python_of(tmp_path / "venv"))
    assert done.returncode == 1
    assert re.fullmatch(r"dev\.py: Neither uv nor pip is here for .*\n", done.stderr)


def python_of(environment: Path) -> Path:
    return dev.programs(environment) / ("python.exe" if sys.platform == "win32" else "python")


def test_children_get_one_uv_and_no_active_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests and renders start uses this uv and this Python, downloads no Python, and shares bytecode."""
    for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "1")
    for name in ("UV_PYTHON", "UV_PYTHON_DOWNLOADS"):
        monkeypatch.delenv(name, raising=False)
    uv = str(Path("somewhere", "uv"))
    env = dev.environment(uv)
    assert env["UV"] == uv
    assert env["PATH"].startswith(f"somewhere{os.pathsep}")
    assert (env["UV_PYTHON"], env["UV_PYTHON_DOWNLOADS"]) == (sys.executable, "never")
    assert not {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONDONTWRITEBYTECODE"} & env.keys()


def test_a_free_port_can_be_listened_on() -> None:
    """The port that is chosen is free, and a port that another process has is refused by its number."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", dev.free_port()))
        listener.listen()
        taken = listener.getsockname()[1]
        with pytest.raises(dev.TroubleError, match=rf"Port {taken} .* --port"):
            dev.free_port(taken)
    assert dev.free_port(taken) == taken


def test_a_folder_that_the_demo_did_not_make_stays(tmp_path: Path) -> None:
    """What the demo did not make, be it a folder or a file, is neither emptied nor written to."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(dev.TroubleError, match="not made by this command"):
        dev.make_empty(tmp_path)
    with pytest.raises(dev.TroubleError, match="not made by this command"):
        dev.make_empty(tmp_path / "thesis.tex")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_the_demo_made_is_emptied(tmp_path: Path) -> None:
    """The demo's own folder is made anew, and a link out of it is removed without what it leads to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    folder = tmp_path / "demo"
    dev.make_empty(folder)
    (folder / "my-chat").mkdir()
    (folder / "my-chat" / "file").touch()
    if sys.platform != "win32":
        (folder / "link").symlink_to(tmp_path / "outside")
    dev.make_empty(folder)
    assert [entry.name for entry in folder.iterdir()] == [dev.MARKER]
    assert (tmp_path / "outside" / "kept").exists()


@pytest.mark.parametrize("git", [True, False], ids=["a clone", "an unpacked archive"])
def test_caches_in_the_template_are_not_rendered(git: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template is copied whole, with new files and without what tools left in its folders."""
    repo = snapshot(tmp_path / "repo")
    if git:
        subprocess.run(["git", "init", "--quiet", repo], check=True)
    base = repo / dev.TEMPLATE[-1]
    whole = {path.relative_to(repo) for path in [repo / "cookiecutter.json", *base.rglob("*")] if path.is_file()}
    for cache in (base / "app" / "__pycache__" / "main.pyc", base / ".mypy_cache" / "x", base / ".venv" / "python"):
        cache.parent.mkdir(exist_ok=True)
        cache.touch()
    monkeypatch.setattr(dev, "ROOT", repo)
    dev.copy_template(tmp_path / "copy")
    copied = {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert {path for path in copied if path.parts[0] not in ("hooks", "templates")} == whole
    assert {Path("hooks", "post_gen_project.py"), Path("templates", "parts.jinja")} <= copied


WANTS = """
import pytest

@pytest.mark.needs("unicorn")
def test_that_wants_one(): pass

def test_that_wants_none(): pass
"""
ADDS_A_NEED = """
import needs

needs.NEEDS.clear()
needs.NEEDS["unicorn"] = needs.Need("Unicorn", "fable tests", ("a-unicorn",))
"""


def pytest_in(folder: Path, test: str, *options: str, found: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one test file with the plugin, on a machine that may have a unicorn."""
    folder.mkdir(exist_ok=True)
    (folder / "adds_a_need.py").write_text(ADDS_A_NEED)
    (folder / "test_it.py").write_text(test)
    name = fake_uv(folder / "bin", "neigh")
    os.replace(name, Path(name).with_name(Path(name).name.replace("uv", "a-unicorn")))
    path = [str(folder / "bin")] if found else []
    env = environment({"PATH": os.pathsep.join(path), "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{folder}"})
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others are no part of it, and take longer to import than all else
    plugins = ["-p", "xdist", "-p", "needs", "-p", "adds_a_need", "-p", "no:cacheprovider"]
    return run("-m", "pytest", "-q", *plugins, *options, cwd=folder, env=env, python=Path(sys.executable))


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_a_bare_machine_leaves_out_is_named(processes: str, tmp_path: Path) -> None:
    """A test whose program is missing is skipped; the program and the test are named before the closing line."""
    done = pytest_in(tmp_path, WANTS, "-n", processes)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, program, test, closing = done.stdout.splitlines()
    assert program == "Left out: Unicorn (fable tests)."
    assert test == "  test_it.py::test_that_wants_one, for want of Unicorn"
    assert closing.startswith("1 passed, 1 skipped")


def test_nothing_left_out_is_said_too(tmp_path: Path) -> None:
    """Where every program is there, every test runs, and the run says so."""
    done = pytest_in(tmp_path, WANTS, "--require-all", found=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "On this machine: Unicorn" in done.stdout
    assert done.stdout.splitlines()[-2] == "Nothing was left out."
    assert done.stdout.splitlines()[-1].startswith("2 passed")


SLOW = """
import pytest


@pytest.mark.slow
def test_that_takes_minutes():
    pass


def test_that_does_not():
    pass
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_slow_tests_run_when_they_are_asked_for(processes: str, tmp_path: Path) -> None:
    """With --slow they run, before the others; without it the run says how many it left out."""
    done = pytest_in(tmp_path / "without", SLOW, "-n", processes, found=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2] == "Left out for want of --slow: 1 slow tests."
    assert done.stdout.splitlines()[-1].startswith("1 passed")
    done = pytest_in(tmp_path / "with", SLOW, "-n", processes, "--slow", found=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2] == "Nothing was left out."
    assert done.stdout.splitlines()[-1].startswith("2 passed")
    collected = pytest_in(tmp_path / "order", SLOW, "--slow", "--collect-only").stdout
    assert collected.index("test_that_takes_minutes") < collected.index("test_that_does_not")


@pytest.mark.xdist_group("together")
def test_a_group_of_tests_stays_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist goes by how a test's name ends; where it does not, each process starts what the group shares."""
    assert request.node.nodeid.endswith("@together") == ("PYTEST_XDIST_WORKER" in os.environ)


def test_each_test_runs_once_and_what_waits_beside_what_computes() -> None:
    def item(path: str, slow: bool = False, group: str = "") -> Any:
        marks = {"slow": () if slow else None, "xdist_group": SimpleNamespace(args=[group]) if group else None}
        nodeid = f"{path}::{next(numbers)}"
        return SimpleNamespace(path=Path(path), nodeid=nodeid, get_closest_marker=marks.get)

    numbers = count()
    quick, suite, slow = item("test_tree.py"), item("test_suites.py", group="suite"), item("test_load.py", slow=True)
    waits = [item("test_crash.py", slow=True) for _ in range(2)]
    page = [item("test_page.py", slow, group="page") for slow in (True, False)]
    several = [quick, *waits, slow, page[0], suite, page[1]]
    assert ordered(several) == [suite, waits[0], *page, waits[1], slow, quick]


def test_require_all_fails_before_the_run(tmp_path: Path) -> None:
    """With --require-all, a missing program ends the run before any test, in one sentence that names it."""
    done = pytest_in(tmp_path, WANTS, "--require-all")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "missing are Unicorn (fable tests): install them" in done.stderr
    assert "passed" not in done.stdout


def test_a_need_that_nobody_knows_is_a_mistake(tmp_path: Path) -> None:
    """A misspelt need would skip for ever: it ends the run."""
    done = pytest_in(tmp_path, WANTS.replace("unicorn", "unicron"))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "needs 'unicron'" in done.stderr


def processes_of(folder: Path) -> list[str]:
    """The command lines that name the folder: every process of a demo is started from inside it."""
    listed = subprocess.check_output(["ps", "-A", "-ww", "-o", "pid=,args="], encoding="utf-8")
    return [line for line in listed.splitlines() if str(folder) in line]


@contextmanager
def demo(repo: Path, env: Mapping[str, str], *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [str(PYTHON), str(repo / "dev.py"), "demo", *options]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def lines_until(wanted: str, process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(wanted, line):
            return lines
    raise AssertionError(f"no {wanted} in:\n" + "".join(lines))


@posix_only
@pytest.mark.parametrize(
    "queue",
    [
        # One process; several of them; and a broker that it can't bring. With each other queue, the project's own
        # tests/test_dev.py starts and stops what the demo does.
        "none",
        pytest.param("rq", marks=pytest.mark.slow),
        pytest.param(choices("queue_backend")[-1], marks=[pytest.mark.slow, pytest.mark.needs("rabbitmq")]),
    ],
)
def test_the_demo_streams_and_stops(queue: str, tmp_path: Path) -> None:
    """From a clone and an empty home folder to a streamed answer; one Ctrl-C, and nothing of it is left."""
    repo = snapshot(tmp_path / "repo")
    uv = shutil.which(os.environ.get("UV", "uv"))
    cache = {"UV_CACHE_DIR": subprocess.check_output([uv, "cache", "dir"], text=True).strip()} if uv else {}
    # One of them starts without any uv, as a newcomer does.
    given = {"UV": uv} if uv and queue != choices("queue_backend")[0] else {}
    if "rabbitmq" in queue:
        given |= {"BROKER_URL": shared_url(), "QUEUE_NAME": f"demo-{queue}"}
    env = bare(tmp_path / "machine", PATH=os.defpath, **cache, **given)
    with demo(repo, env, "--queue", queue) as process:
        lines = lines_until("Ctrl-C stops it", process)
        assert not any("No broker" in line for line in lines)
        curl = next(line for line in lines if "/chat/stream" in line)
        port = int(re.findall(r"curl -N http://127\.0\.0\.1:(\d+)/chat/stream ", curl)[0])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            body = json.dumps({"question": "one two three four five six seven eight nine ten"})
            connection.request("POST", "/chat/stream", body, {"content-type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200
            seen = [(line.strip(), time.monotonic()) for line in response if line.startswith(b"event:")]
        assert seen[-1][0] == b"event: done"
        first = next(moment for line, moment in seen if line == b"event: token")
        assert seen[-1][1] - first > 0.2, "the tokens came all at once"
        if (repo / "build" / f"demo-{queue}" / "my-chat" / "scripts" / "dev.py").exists():
            finish_a_job(port)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    own = re.search(r"Stopped\.\n\nNext, a project of your own:\n\n  (.*) cookiecutter (.*)\n\n\Z", rest)
    assert own, rest
    assert Path(own[2]) == repo
    assert own[1] == "uvx" or shutil.which(own[1].removesuffix(" tool run"))
    assert "Traceback" not in "".join(lines) + rest
    assert processes_of(tmp_path) == []
    assert not list((tmp_path / "machine" / "home").glob(".cookiecutter*"))
    assert list((repo / "build" / f"demo-{queue}").iterdir())


def finish_a_job(port: int) -> None:
    """The worker is there as well: it takes a document to its end."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        body = json.dumps({"title": "A tale", "text": "Once upon a time"})
        connection.request("POST", "/documents", body, {"content-type": "application/json"})
        response = connection.getresponse()
        record = json.loads(response.read())
        assert response.status == 202
        deadline = time.monotonic() + 60
        while record["status"] != "succeeded" and time.monotonic() < deadline:
            time.sleep(0.1)
            connection.request("GET", f"/jobs/{record['id']}")
            record = json.loads(connection.getresponse().read())
        assert record["status"] == "succeeded", record


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_can_be_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C before the server runs ends what is under way, and is told in a line."""
    repo = snapshot(tmp_path / "repo")
    uv = Path(fake_uv(tmp_path / "fake", ""))
    uv.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo uv 0.13.9; else sleep 600; fi\n')
    env = bare(tmp_path / "machine", UV=str(uv), PATH=os.defpath)
    with demo(repo, env) as process:
        lines_until(r"\[1/4\]", process)
        deadline = time.monotonic() + 60
        while not processes_of(uv):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest.endswith("\ndev.py: stopped.\n")
    assert processes_of(uv) == []

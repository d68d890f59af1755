#!/usr/bin/env python3
"""See the default project run (`demo`), or run every test that this machine can (`test`).

Standard library only, for a machine with Python, pip and nothing else: uv is brought when it is missing.
"""

import argparse
import contextlib
import http.client
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn
from urllib.parse import urlsplit

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python still parses this file, and gets a sentence
    sys.exit(f"dev.py needs Python 3.11 or later, and this is {sys.version.split()[0]}: run it with a newer one.")

UV_VERSION = "0.13.9"
OLDEST_UV = (0, 8)  # an older one knows not all that is asked of it here
ROOT = Path(__file__).resolve().parent
TEMPLATE = ("cookiecutter.json", "hooks", "templates", "{{cookiecutter.project_slug}}")
MARKER = ".made-by-dev-py"
BROKER = ("BROKER_URL", "QUEUE_NAME")
START_SECONDS = 60.0  # a cold start compiles every dependency's bytecode
STOP_SECONDS = 30.0  # above what the emitted project may take, signal by signal, to stop its processes
NETWORK = "check the network, and run this again"
STOPS = [signal.SIGINT, signal.SIGTERM]
if sys.platform != "win32":
    STOPS.append(signal.SIGHUP)


class TroubleError(Exception):
    """What went wrong and what to do about it, in one sentence; `main` prints it and exits with 1."""


def start(command: list[str], cwd: Path, env: dict[str, str], out: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own: a Ctrl-C reaches this program alone, which passes it on once."""
    group = sys.platform != "win32"
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=group
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the child to end, wait, and end whatever of its group is still there."""
    if sys.platform != "win32":  # there, a Ctrl-C has reached every process of the console already
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter is macOS, for a group of zombies
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(label: str, command: list[str], env: dict[str, str], advice: str, cwd: Path = ROOT) -> None:
    """Run one step, showing its label and the seconds it takes, and its output only when it fails."""
    print(f"{label} …", end="", flush=True)
    began = shown = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = start(command, cwd, env, output)
        try:
            while process.poll() is None:
                time.sleep(0.05)
                if time.monotonic() - shown >= 5:
                    shown = time.monotonic()
                    print(f" {shown - began:.0f} s …", end="", flush=True)
        finally:
            stop(process)
        print(f" {time.monotonic() - began:.1f} s", flush=True)
        if process.returncode != 0:
            output.seek(0)
            print(*output.read().decode(errors="replace").splitlines()[-20:], sep="\n", file=sys.stderr)
            raise TroubleError(f"{label.partition('] ')[2]} failed, as shown above: {advice}.")


def works(uv: str | None) -> bool:
    """Whether it runs and is recent: a version manager's shim may stand on the PATH and do neither."""
    said = ""
    if uv is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            said = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    version = re.match(r"uv (\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_UV


def find_uv(step: str) -> str:
    """Give the uv of the variable UV, else of the PATH, else the one in .tools, which pip brings the first time."""
    asked = os.environ.get("UV")
    found = shutil.which(asked or "uv")
    if found and works(found):
        return found
    if asked:
        raise TroubleError(f"UV={asked} is no uv that runs and is recent: unset it, and one is found or brought.")
    target = ROOT / ".tools" / "uv"
    binary = str(target / "bin" / ("uv.exe" if sys.platform == "win32" else "uv"))
    if (target / f"uv-{UV_VERSION}.dist-info").is_dir() and works(binary):
        return binary
    if importlib.util.find_spec("pip") is None:
        raise TroubleError(
            f"Neither uv nor pip is here for {sys.executable}: install one of them "
            "(on Debian and Ubuntu: apt install python3-pip), or use a Python that has pip."
        )
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as fresh:  # an interrupted install is never taken for uv
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "2"]
        # Both settings are common on developers' machines, and refuse an install into a folder.
        env = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_ROOT_USER_ACTION": "ignore"}
        run(f"{step} bringing uv", [*pip, "--target", f"{fresh}/uv", f"uv=={UV_VERSION}"], env, NETWORK)
        shutil.rmtree(target, ignore_errors=True)
        Path(fresh, "uv").replace(target)
    return binary


def environment(uv: str) -> dict[str, str]:
    """Give what every child gets: this uv, this Python, and nothing of an environment that happens to be active."""
    # Without bytecode files, each of the many Pythons that the tests start would compile its imports again.
    dropped = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONDONTWRITEBYTECODE")
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    if shutil.which("uv") != uv:
        env["PATH"] = os.pathsep.join([str(Path(uv).parent), env.get("PATH", os.defpath)])
    # A company's own certificate authority is known to the system, and not to the list that uv carries.
    defaults = {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
    return defaults | env | {"UV": uv}


def programs(venv: Path) -> Path:
    return venv / ("Scripts" if sys.platform == "win32" else "bin")


def queues() -> list[str]:
    """Give the choices of queue, the default first, as the template asks for them."""
    return list(json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["queue_backend"])


def free_port(wanted: int = 0) -> int:
    with socket.socket() as probe:
        if sys.platform != "win32":  # where it would allow a port that another process listens on
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError):
            raise TroubleError(f"Port {wanted} cannot be used: leave --port out, and a free one is chosen.") from None
        return int(probe.getsockname()[1])


def listens(url: str) -> bool:
    """Whether something does at the host and port of the URL."""
    at = urlsplit(url)
    with contextlib.suppress(OSError):
        socket.create_connection((at.hostname or "", at.port or 5672), timeout=2).close()
        return True
    return False


def make_empty(folder: Path) -> None:
    """Make the folder, or empty one that an earlier demo made; any other that holds something is left alone."""
    marker = folder / MARKER
    if folder.exists() and not marker.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise TroubleError(f"{folder} was not made by this command, so it stays: name another one with --output.")
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("Made by `dev.py demo`, which replaces all of this folder when it runs again.\n")
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != marker:
            entry.unlink()


def copy_template(target: Path) -> None:
    """Copy the template without what git ignores: a stray cache in its folder would be rendered, or break that."""
    listing = ["git", "--literal-pathspecs", "ls-files", "-co", "--exclude-standard", "-z", "--", *TEMPLATE]
    listed = b""
    with contextlib.suppress(OSError):
        listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=False).stdout
    files = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    if ROOT / TEMPLATE[0] not in files:  # no git, or a folder that is no repo
        files = [ROOT / TEMPLATE[0], *(path for name in TEMPLATE[1:] for path in (ROOT / name).rglob("*"))]
    cache = re.compile(r"__pycache__|\.venv|\..+_cache")
    for path in files:
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not any(map(cache.fullmatch, parts)):  # git also lists what was deleted since
            copy = target.joinpath(*parts)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def render(step: str, output: Path, queue: str, env: dict[str, str], *others: str) -> Path:
    """Render the default answers with this queue, and others such as `model_provider=openai`.

    It takes an environment that holds nothing but cookiecutter.
    """
    pinned = re.search(r'"(cookiecutter==[^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pinned, "pyproject.toml pins cookiecutter"
    with tempfile.TemporaryDirectory() as scratch:
        copy_template(Path(scratch, "template"))
        # Its own settings, so that the home folder has no say and gets no record; JSON is YAML.
        config = {"cookiecutters_dir": f"{scratch}/cookiecutters", "replay_dir": f"{scratch}/replay"}
        Path(scratch, "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        command = [env["UV"], "tool", "run", "--from", pinned[1], "cookiecutter", f"{scratch}/template", "--no-input"]
        command += ["--config-file", f"{scratch}/config.yaml", "--output-dir", str(output)]
        answers = ["project_slug=my-chat", f"queue_backend={queue}", *others]
        advice = "check the network if a download failed, else the template"
        run(f"{step} rendering the project", [*command, *answers], env, advice, Path(scratch))
    return output / "my-chat"


def wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise TroubleError("The server ended before it was ready: what it printed above says why.")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise TroubleError(f"The server did not answer /health within {START_SECONDS:.0f} s: see what it printed above.")


def serve(project: Path, port: int, env: dict[str, str]) -> None:
    """Run the project until a signal: with its own script, where several processes make it up, else its web server."""
    venv = programs(project / ".venv")
    command = [str(venv / "python"), "-m", "uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", str(port)]
    if (project / "scripts" / "dev.py").is_file():
        command = [str(venv / "python"), "scripts/dev.py"]
    # The demo shows the project's defaults: settings that this shell happens to have stay out of it, but for those of a
    # broker that the demo can't bring.
    settings = dict(re.findall(r"^[# ]*([A-Z_]+)=(.*)$", (project / ".env.example").read_text(encoding="utf-8"), re.M))
    kept = BROKER if "BROKER_URL" in settings else ()
    env = {key: value for key, value in env.items() if key not in settings or key in kept}
    env |= {"PATH": f"{venv}{os.pathsep}{env['PATH']}", "PORT": str(port), "DRAIN_SECONDS": "0.5"}
    server = start(command, project, env)
    try:
        wait_until_healthy(server, port)
        url = f"http://127.0.0.1:{port}"
        print(f"\nIt runs: {url}\n\nTo see it stream, in another terminal:\n")
        print(f'  curl -N "{url}/stream?text=hello+there"')
        asking = """-H 'content-type: application/json' -d '{"question": "Hello there"}'"""
        print(f"  curl -N {url}/chat/stream {asking}\n")
        if kept and not listens(broker := env.get("BROKER_URL") or settings["BROKER_URL"]):
            print(
                f"No broker listens at {broker.rpartition('@')[2]}: jobs wait for it. The project's README.md says how"
            )
            print("to start one; where one is elsewhere, set BROKER_URL.\n")
        print("Ctrl-C stops it.\n", flush=True)
        while server.poll() is None:
            time.sleep(0.1)
        raise TroubleError("The server ended by itself: what it printed above says why.")
    except KeyboardInterrupt:
        print("\nStopping …", flush=True)
    finally:
        stop(server)
    tool = "uvx" if shutil.which("uvx") else f"{shlex.quote(env['UV'])} tool run"
    print(f"Stopped.\n\nNext, a project of your own:\n\n  {tool} cookiecutter {shlex.quote(str(ROOT))}\n")


def demo(queue: str, port: int, output: Path | None) -> None:
    port = free_port(port)
    output = (output or ROOT / "build" / f"demo-{queue}").resolve()
    make_empty(output)
    uv = find_uv("[1/4]")
    print(f"[1/4] uv: {uv}")
    env = environment(uv)
    project = render("[2/4]", output, queue, env)
    run("[3/4] installing its dependencies", [uv, "sync", "--project", str(project)], env, NETWORK, project)
    print(f"[4/4] serving {project}", flush=True)
    serve(project, port, env)


def test(arguments: list[str]) -> NoReturn:
    uv = find_uv("[1/3]")
    print(f"[1/3] uv: {uv}")
    env = environment(uv)
    venv = ROOT / os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv")
    sync = [uv, "sync", "--project", str(ROOT)]
    run("[2/3] installing the template's tools", sync, env | {"UV_PROJECT_ENVIRONMENT": str(venv)}, NETWORK)
    print("[3/3] running the tests", flush=True)
    # More than there are cores, for much of what tests do is wait: for a lease to run out, a drain, a silence. Slow
    # ones start more processes of their own.
    processes = (os.cpu_count() or 1) + (2 if "--slow" in arguments else 4)
    command = [str(programs(venv) / "python"), "-m", "pytest", "-n", str(processes), *arguments]
    os.chdir(ROOT)
    if sys.platform == "win32":  # where exec would give the terminal back before the tests have ended
        sys.exit(subprocess.call(command, env=env))
    os.execve(command[0], command, env)  # from here, signals and the exit status are pytest's own


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Begin the one orderly stop. It is bounded in time, so that a second Ctrl-C could add nothing but orphans."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", title="commands")
    choices = queues()
    about = "render the default project, install it, and serve it until Ctrl-C"
    demo_parser = commands.add_parser("demo", help=about, description=about)
    demo_parser.add_argument("--queue", choices=choices, default=choices[0], help="default: %(default)s")
    demo_parser.add_argument("--port", type=int, default=0, help="default: a free one")
    demo_parser.add_argument("--output", type=Path, metavar="DIR", help="default: build/demo-QUEUE; replaced")
    about = (
        "install what the tests need, and run them; --require-all fails where an optional program is missing, "
        "--slow adds those that take minutes"
    )
    test_parser = commands.add_parser("test", help=about, description=about, allow_abbrev=False)
    test_parser.usage = "dev.py test [--require-all] [--slow] [pytest's own arguments]"
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for each in STOPS:
        if each in STOPS[:2] or signal.getsignal(each) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
            signal.signal(each, interrupt)
    try:
        if options.command == "test":
            test(rest)
        elif options.command == "demo":
            demo(options.queue, options.port, options.output)
        else:
            parser.print_help()
    except TroubleError as trouble:
        print(f"dev.py: {trouble}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"dev.py: {error}: make that possible (space? permissions?), and run this again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndev.py: stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

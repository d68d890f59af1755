#!/usr/bin/env python3
"""Shows what becomes of a stream when something goes wrong: with this template, and with what else an author would use.

    uv run --group bench python benchmarks/behaviour.py

Every contestant, with its defaults, meets each situation in a uvicorn process of its own, over a socket, on Linux or
macOS. Nothing is judged: the table says what was seen.
"""

import argparse
import contextlib
import importlib.util
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from measuring import Running, TroubleError, line_of, machine, say, stop_on_signals, table, versions
from streaming import CONTESTANTS, LIBRARIES, START_SECONDS, Server, running, wait_until_it_answers

NAMES = ("streaming_response", "fastapi_sse", "sse_starlette", "ours")
PATIENCE_SECONDS = 8.0  # whoever takes longer hangs: the drain time of the emitted application is 5 s
SILENCE_SECONDS = 20.0  # longer than any heartbeat: FastAPI's is a private constant, of 15 s
SETTLE_SECONDS = 2.0  # for what takes a tenth of a second, or never happens
BUSY_SECONDS = 1.0
BUSY_ANSWER_SECONDS = 4.0  # who has not answered by then has a source that takes all of a core, for as long as we ask
BUSY_CPU = 0.1  # of a core: a source that never suspends takes all that it can get, an idle process a hundredth
FOR_EVER = 10**9
Process = subprocess.Popen[bytes]
Facts = dict[str, Any]


@dataclass
class Answer:
    """A response, read as it comes. `ending` is "open", then "whole", or "cut" where its proper end was lacking."""

    socket: socket.socket
    response: HTTPResponse
    text: str = ""
    ending: str = "open"

    @property
    def events(self) -> list[str]:
        return re.findall(r"^event: (\S+)", self.text, re.MULTILINE)

    def read(self, seconds: float, until: Callable[[], object] = lambda: False) -> float:
        """Read to the end, for this time, or until the condition holds; give how long that took."""
        began = time.monotonic()
        while self.ending == "open" and not until() and (left := began + seconds - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.response.read1()
            except TimeoutError:
                break
            except (OSError, HTTPException):
                self.ending = "cut"
            else:
                self.text += data.decode()
                self.ending = "open" if data else "whole"
        return round(time.monotonic() - began, 2)


@contextmanager
def asked(port: int, path: str, *, begun: bool = True, seconds: float = PATIENCE_SECONDS) -> Iterator[Answer]:
    """Ask for this, and wait for its first event if it is to have `begun`; at the block's end, the client leaves."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
        connection.connect()
        own = connection.sock  # which the connection forgets when the response says that it is the last
        connection.request("GET", path)
        with connection.getresponse() as response:
            answer = Answer(own, response)
            if begun:
                answer.read(PATIENCE_SECONDS, lambda: answer.events)
                if not answer.events:
                    raise TroubleError(f"the stream has not begun: {response.status}, {answer.text[:200]!r}")
            yield answer


def sigterm(port: int, process: Process) -> Facts:
    with asked(port, f"/events/paced/{FOR_EVER}") as answer:
        process.terminate()
        seconds = answer.read(PATIENCE_SECONDS)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_SECONDS)
    exited = process.poll() is not None
    if answer.ending == "open":
        words = f"still there {seconds:.0f} s later" + ", until the client left" * exited
    else:
        how = {"whole": "ended", "cut": "cut"}[answer.ending]
        words = f"{how} after {seconds:.1f} s, last event `{answer.events[-1]}`"
    return {"words": words, "ending": answer.ending, "seconds": seconds, "events": answer.events, "exited": exited}


def in_finally(port: int, process: Process) -> Facts:
    return after_leaving(port, process, 1)


def never_suspends(port: int, process: Process) -> Facts:
    facts = after_leaving(port, process, FOR_EVER)
    try:
        before = usage(port)["cpu_after"]
        time.sleep(BUSY_SECONDS)
        cpu = (usage(port)["cpu_before"] - before) / BUSY_SECONDS
    except (OSError, HTTPException):
        return facts | {"words": "the process answers nobody any more", "answers": False}
    how = "goes on" if cpu > BUSY_CPU else "ends"
    return facts | {"words": f"{how}, {facts['words']}; the process answers", "answers": True, "cpu": round(cpu, 2)}


def after_leaving(port: int, process: Process, events: int) -> Facts:
    """What its source tells of the end of a stream whose client has left."""
    with asked(port, f"/events/watched/{events}"):
        pass
    closed = line_of(process, SETTLE_SECONDS) == "closed"
    ran = closed and line_of(process, SETTLE_SECONDS) == "ran"
    words = "`finally` ran" if ran else "the rest of `finally` did not run" if closed else "`finally` was not reached"
    return {"words": words, "closed": closed, "ran": ran}


def usage(port: int) -> dict[str, float]:
    """It collects garbage, and that may close a source: what is to be seen without has to be seen before."""
    with asked(port, "/usage", begun=False, seconds=BUSY_ANSWER_SECONDS) as answer:
        answer.read(BUSY_ANSWER_SECONDS)
    return json.loads(answer.text)  # type: ignore[no-any-return]


def raises(port: int, _process: Process) -> Facts:
    with asked(port, "/events/broken/0", begun=False) as answer:
        answer.read(PATIENCE_SECONDS)
        status = answer.response.status
    words = ", ".join(f"`{event}`" for event in answer.events)
    words = words or str(status) + " with an empty body" * (not answer.text)
    words += {"whole": "", "cut": ", cut", "open": ", without an end"}[answer.ending]
    return {"words": words, "ending": answer.ending, "status": status, "events": answer.events, "body": answer.text}


def silence(port: int, _process: Process) -> Facts:
    with asked(port, "/events/idle/1") as answer:
        before = len(answer.text)
        seconds = answer.read(SILENCE_SECONDS, lambda: len(answer.text) > before)
    sent = answer.text[before:]
    if sent:
        words = ("a keep-alive" if sent.startswith(":") else f"`{sent.strip()}`") + f" after {seconds:.0f} s"
    else:
        words = {"whole": "ended after", "cut": "cut after", "open": "nothing in"}[answer.ending] + f" {seconds:.0f} s"
    return {"words": words, "ending": answer.ending, "seconds": seconds, "sent": sent}


# Each takes a server's port and process, and gives what it saw, also in the words of the table's cell.
SITUATIONS: dict[str, tuple[str, Callable[[int, Process], Facts]]] = {
    "sigterm": ("SIGTERM with a stream open", sigterm),
    "finally": ("an `await` in the generator's `finally`, when the client leaves", in_finally),
    "never-suspends": ("a model that never suspends, and the client has left", never_suspends),
    "raises": ("the model raises before the first token", raises),
    "silence": ("silence", silence),
}


def met(situation: str, name: str, process: Process, errors: Callable[[], str]) -> Facts:
    try:
        port = int(line_of(process, START_SECONDS) or 0)
        wait_until_it_answers(Server(name, port), process, errors)
        return SITUATIONS[situation][1](port, process)
    except (TroubleError, OSError, HTTPException) as error:
        raise TroubleError(f"{CONTESTANTS[name]}, {situation}: {error}\n{errors()}") from error


def observe(situation: str) -> dict[str, Facts]:
    """What each contestant does, all side by side, for most of it is waiting."""
    say(SITUATIONS[situation][0])
    # The processes end before the threads are waited for: whoever still reads then sees the end of its connection.
    with ThreadPoolExecutor(len(NAMES)) as pool, ExitStack() as stack:
        servers: dict[str, Running] = {name: stack.enter_context(running("contestants.py", name)) for name in NAMES}
        seen = {name: pool.submit(met, situation, name, *server) for name, server in servers.items()}
        return {name: facts.result() for name, facts in seen.items()}


def as_markdown(seen: dict[str, dict[str, Facts]]) -> str:
    about = machine(versions(LIBRARIES))
    known = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rows = ([SITUATIONS[each][0], *(facts[name]["words"] for name in NAMES)] for each, facts in seen.items())
    lines = table(["", *(CONTESTANTS[name] for name in NAMES)], rows)
    lines[1] = lines[1].replace(":", "")  # words, not figures
    return "\n".join([f"{about['cpu']}, {about['cores']} cores, {about['system']}; {known}.", "", *lines])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="behaviour.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the facts as JSON, and nothing else, on stdout")
    parser.add_argument("--only", choices=SITUATIONS, help="show this alone")
    options = parser.parse_args(arguments)
    if sys.platform == "win32":
        parser.error("Linux or macOS is needed: there is no uvloop for Windows")
    if lacking := [name for name in LIBRARIES if importlib.util.find_spec(name.replace("-", "_")) is None]:
        parser.error(f"{', '.join(lacking)} cannot be imported: run it with `uv run --group bench`")
    stop_on_signals()
    try:
        seen = {name: observe(name) for name in ([options.only] if options.only else SITUATIONS)}
    except TroubleError as trouble:
        say(f"behaviour.py: {trouble}")
        return 1
    except KeyboardInterrupt:
        say("behaviour.py: stopped")
        return 130
    report = {"machine": machine(versions(LIBRARIES)), "seen": seen}
    print(json.dumps(report, indent=2) if options.json else as_markdown(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

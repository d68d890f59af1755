"""What becomes of a session: of a process that was started in one of its own, and of all that it has started since,
whatever process groups these have put themselves into. On Linux or macOS."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
HAS_CPU = (PROC / "self" / "stat").exists()
LOOK_SECONDS = 0.002
Stat = list[str]  # of a process, from its state on, as the manual of proc(5) has them


def kill(session: int) -> None:
    """All of its processes, and those that they start meanwhile."""
    while alive := _members(session):
        _signal(alive, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def stop(session: int) -> None:
    """Until `go_on` none of its processes does anything."""
    while moving := [process for process, state in _members(session).items() if state != "T"]:
        _signal(moving, signal.SIGSTOP)
        time.sleep(LOOK_SECONDS)


def go_on(session: int) -> None:
    _signal(_members(session), signal.SIGCONT)


def cpu_seconds(session: int) -> float:
    """What its processes have used, with those children of theirs that have ended; where HAS_CPU."""
    # A child's time is its parent's once that has waited for it, so one that has ended until then counts itself.
    used = (stat[11:15] for _, stat in _stats() if int(stat[3]) == session)
    return sum(int(ticks) for each in used for ticks in each) / os.sysconf("SC_CLK_TCK")


def _members(session: int) -> dict[int, str]:
    """Its processes that live, each with the letter that `ps` has for its state."""
    found = {}
    for process, state in _states():
        with suppress(ProcessLookupError, PermissionError):
            if state not in "ZX" and os.getsid(process) == session:
                found[process] = state
    return found


def _states() -> Iterator[tuple[int, str]]:
    if HAS_CPU:
        yield from ((process, stat[0]) for process, stat in _stats())
        return
    for line in subprocess.check_output(["ps", "-A", "-o", "pid=,stat="], encoding="utf-8").splitlines():
        process, state = line.split()
        yield int(process), state[0]


def _stats() -> Iterator[tuple[int, Stat]]:
    for name in os.listdir(PROC):
        with suppress(FileNotFoundError, ProcessLookupError):
            if name.isdecimal():
                yield int(name), (PROC / name / "stat").read_text("utf-8", "replace").rpartition(") ")[2].split()


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)

#!/usr/bin/env python3
"""Measures what one caller's flood does to another: ten answers alone, and beside 10,000 requests of somebody else.

    uv run --group bench python benchmarks/abuse.py

The emitted application is served by a uvicorn process of its own, with two callers and a limit of each. In each round
the ten are measured alone, then beside a flood over so many connections, which has a process of its own too. A figure
is the median over the rounds; of ten answers, the p99 is the slowest.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import flood
from measuring import (
    TroubleError,
    environment,
    line_of,
    machine,
    positive,
    say,
    started,
    stop_on_signals,
    table,
    versions,
)

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "{{cookiecutter.project_slug}}"
KEYS = {"alice": "a-key-of-alice", "bob": "a-key-of-bob"}
LIMITS = {"REQUESTS_PER_MINUTE": "60", "MAX_STREAMS_PER_CALLER": "10"}
LIBRARIES = ("fastapi", "starlette", "uvicorn", "h11")
CONNECTIONS = (20, 100, 300)
ANSWERS = 10
APART_SECONDS = 0.2
START_SECONDS = 60.0


@contextmanager
def serving() -> Iterator[int]:
    """The emitted application where it lies; gives its port."""
    settings = {"API_KEYS": ",".join(f"{name}:{key}" for name, key in KEYS.items()), "LOG_LEVEL": "WARNING", **LIMITS}
    env = environment(PROJECT) | settings | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    served = [sys.executable, HERE / "abuse_server.py"]
    with started(served, env) as (process, printed):
        if not (port := line_of(process, START_SECONDS)):
            raise TroubleError(f"the server has not begun:\n{printed()}")
        yield int(port)


async def answered(port: int, after: float) -> tuple[float, float]:
    """Seconds to the first token of an answer, and to its end."""
    await asyncio.sleep(after)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(flood.request(KEYS["bob"], 20))
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise TroubleError(f"refused: {head.decode()}")
    await reader.readuntil(b"event: token")
    first = time.monotonic() - began
    body = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    if b'"end"' not in body:
        raise TroubleError("an answer is not whole")
    return first, time.monotonic() - began


async def slowest(port: int) -> tuple[float, float]:
    found = await asyncio.gather(*(answered(port, number * APART_SECONDS) for number in range(ANSWERS)))
    return max(first for first, _ in found), max(whole for _, whole in found)


def measured(requests: int, connections: int) -> dict[str, float]:
    """With a server of its own, whose minute has not begun."""
    with serving() as port:
        asyncio.run(slowest(port))  # what is imported or cached then counts for none
        alone = asyncio.run(slowest(port))
        command = [sys.executable, HERE / "flood.py", port, KEYS["alice"], requests, connections]
        with started(command, environment(PROJECT)) as (process, printed):
            if not line_of(process, START_SECONDS):
                raise TroubleError(f"nothing of the flood was refused:\n{printed()}")
            began = time.monotonic()
            beside = asyncio.run(slowest(port))
            statuses = json.loads(line_of(process, 600.0) or "{}")
            took = time.monotonic() - began
    if set(statuses) - {"200", "429"} or statuses.get("429", 0) < requests - 200:
        raise TroubleError(f"the flood was answered {statuses}")
    return {
        "requests a second": requests / took,
        "refused": statuses["429"],
        "first token alone (s)": alone[0],
        "beside the flood": beside[0],
        "times": beside[0] / alone[0],
        "whole answer alone (s)": alone[1],
        "beside it": beside[1],
        "times as long": beside[1] / alone[1],
    }


def main() -> None:
    stop_on_signals()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small flood, once: to see that it works")
    parser.add_argument("--rounds", type=positive, metavar="N", default=3)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else, on stdout")
    options = parser.parse_args()
    requests, rounds, crowds = (1_000, 1, (20,)) if options.quick else (10_000, options.rounds, CONNECTIONS)
    found: dict[int, dict[str, float]] = {}
    try:
        for connections in crowds:
            say(f"a flood over {connections} connections")
            each = [measured(requests, connections) for _ in range(rounds)]
            found[connections] = {name: statistics.median(one[name] for one in each) for name in each[0]}
    except TroubleError as error:
        sys.exit(f"abuse.py: {error}")
    about = machine(versions(LIBRARIES))
    if options.json:
        print(json.dumps({"machine": about, "requests": requests, "rounds": rounds, "figures": found}, indent=2))
        return
    names = list(next(iter(found.values())))
    rows = [[name, *(f"{figures[name]:.3g}" for figures in found.values())] for name in names]
    print(f"{about['cpu']}, {about['cores']} cores; {about['versions']}; {requests:,} requests, medians of {rounds}.\n")
    print("\n".join(table(["connections of the flood", *map(str, found)], rows)))


if __name__ == "__main__":
    main()

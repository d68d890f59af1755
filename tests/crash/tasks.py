# Appended to the tasks of a copied project, as its user would add some of his own. Each writes into the test's journal.
# mypy: disable-error-code="import-not-found", disallow-untyped-decorators=False
import asyncio
import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Literal

from app.jobs.definition import JobContext, task
from pydantic import BaseModel

MANY = 50  # attempts: a job that is killed by chance, time after time, is no failure


class Probe(BaseModel):
    number: int = 0
    seconds: float = 0.0
    file: Path | None = None
    url: str = ""


def note(what: Literal["begin", "end", "cleaned"], context: JobContext, probe: Probe) -> None:
    """One write at the end of a file: whole, and there whatever dies next, Redis among it."""
    line = {
        "what": what,
        "job": context.key,
        "attempt": context.attempt,
        "number": probe.number,
        "at": time.time(),
        "session": os.getsid(0),
    }
    file = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


@task(max_attempts=MANY)
async def last(context: JobContext, probe: Probe) -> int:
    note("begin", context, probe)
    await asyncio.sleep(probe.seconds)
    note("end", context, probe)
    return probe.number


@task(max_attempts=MANY)
async def hold(context: JobContext, probe: Probe) -> int:
    """Goes on once the file is gone. Its cleanup awaits."""
    assert probe.file
    note("begin", context, probe)
    try:
        context.progress(0.5, f"attempt {context.attempt}")
        while probe.file.exists():  # noqa: ASYNC110 - an event of another process
            await asyncio.sleep(0.02)
        note("end", context, probe)
    finally:
        await asyncio.sleep(0.1)
        note("cleaned", context, probe)
    return probe.number


@task(max_attempts=MANY)
async def affect(context: JobContext, probe: Probe) -> None:
    """An effect in Redis, in one transaction with a mark of the job; and one at a provider that knows the job's key."""
    import redis.asyncio as redis  # not every queue brings it

    queue = os.environ["QUEUE_NAME"]
    note("begin", context, probe)
    await asyncio.sleep(probe.seconds)
    async with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        once = "if redis.call('SET', KEYS[1], 1, 'NX') then redis.call('RPUSH', KEYS[2], ARGV[1]) end"
        await client.eval(once, 2, f"{queue}:done:{context.key}", f"{queue}:effects", str(probe.number))
    await asyncio.sleep(probe.seconds)
    headers = {"Idempotency-Key": context.key}
    request = urllib.request.Request(probe.url, str(probe.number).encode(), headers)
    (await asyncio.to_thread(urllib.request.urlopen, request, timeout=60)).close()
    await asyncio.sleep(probe.seconds)
    note("end", context, probe)


@task(max_attempts=1)
async def sleep_in_a_thread(context: JobContext, probe: Probe) -> None:
    """Nothing can stop the thread but the end of its process."""
    note("begin", context, probe)
    await asyncio.to_thread(time.sleep, probe.seconds)


@task()
async def kill_the_worker(context: JobContext, probe: Probe) -> None:
    """All of it at once, as the kernel does with a container that is out of memory; the third time, when the file is
    gone."""
    note("begin", context, probe)
    while context.attempt == 3 and probe.file and probe.file.exists():  # noqa: ASYNC110 - an event of another process
        await asyncio.sleep(0.02)
    session = os.getsid(0)
    os.kill(session, signal.SIGKILL)  # the worker itself first, so that it starts no more
    others = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]
    for process in others:
        try:
            if os.getsid(process) == session:
                os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os.kill(os.getpid(), signal.SIGKILL)


@task()
async def fail_twice(context: JobContext, probe: Probe) -> int:
    note("begin", context, probe)
    if context.attempt < 3:
        raise RuntimeError("on purpose")
    note("end", context, probe)
    return probe.number


@task(max_attempts=1)
async def fail_while_there(context: JobContext, probe: Probe) -> int:
    """Fails while the file is there."""
    assert probe.file
    note("begin", context, probe)
    if probe.file.exists():
        raise RuntimeError("on purpose")
    note("end", context, probe)
    return probe.number

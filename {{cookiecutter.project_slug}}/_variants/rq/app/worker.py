"""`python -m app.worker`: RQ's own worker, on this project's queue.

`python -m app.worker health` says whether a worker of this host is alive, for a container's probe.
"""

import sys

if __name__ == "__main__" and sys.argv[1:] == ["health"]:  # before all that only a worker needs is imported
    from app.jobs.probe import health

    sys.exit(health())

import asyncio
from functools import cache

from app import telemetry
from app.jobs.enduring import ForkWorker, NewProcessWorker, work
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.settings import Settings

ONE_QUEUE = (
    "app.worker: a worker listens to exactly one queue, the one that QUEUE_NAME names. On several, RQ pops with a "
    "command that forgets the job of a worker which dies at that moment. Start a worker for each queue instead."
)


@cache
def set_up() -> JobSettings:
    """Sets up logging and reads the settings, once. A process that is forked for a job finds both done: they would take
    a third of its time."""
    common = Settings.read()
    telemetry.set_up_worker(common.log_level, common.log_format)
    return JobSettings.read()


def run_job(job_id: str) -> None:
    """RQ calls this, in a process of its own for each job."""
    settings = set_up()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_run_job(job_id, settings))
    finally:
        # Not asyncio.run: that waits for what a stopped job has left behind, a thread or a body that catches its
        # cancellation. Both end with this process, and the worker is free for the next job.
        loop.close()


async def _run_job(job_id: str, settings: JobSettings) -> None:
    async with Store.open(settings) as store:
        await run(store, job_id, settings)


def main(arguments: list[str]) -> str | None:
    """What is wrong, or None."""
    if arguments:
        return ONE_QUEUE
    # macOS forbids its own libraries much of what they do in a process that was forked.
    work(set_up(), NewProcessWorker if sys.platform == "darwin" else ForkWorker)
    return None


if __name__ == "__main__":
    from app import worker  # by the name that RQ looks for: as `__main__`, each fork would import it again

    sys.exit(worker.main(sys.argv[1:]))

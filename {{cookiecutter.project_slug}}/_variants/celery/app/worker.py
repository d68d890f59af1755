"""`python -m app.worker`: Celery's own worker, on this project's queue. It takes the options of `celery worker`, and
Celery's other commands find it as `celery -A app.worker`.

`python -m app.worker health` says whether a worker of this host is alive, for a container's probe.
"""

import sys

if __name__ == "__main__" and sys.argv[1:] == ["health"]:  # before all that only a worker needs is imported
    from app.jobs.probe import health

    sys.exit(health())

import logging
import os
from typing import Any

from celery import signals
from celery.bin.base import CLIContext
from celery.bin.worker import worker as celery_worker

from app import logs, telemetry
from app.jobs.attempts import Attempts
from app.jobs.broker import RUN_JOB, celery_app
from app.jobs.presence import Presence
from app.jobs.settings import JobSettings
from app.settings import Settings

log = logging.getLogger("app.worker")  # as a command, this module has another name
ONE_QUEUE = (
    "app.worker: a worker listens to exactly one queue, the one that QUEUE_NAME names, for that is where the web "
    "server's relay hands jobs over and counts what waits. Start a worker for each queue instead."
)
HEARTBEAT = (
    "app.worker: by its heartbeat a worker shows that it is alive, and without that a probe would have it restarted: "
    "leave --without-heartbeat out"
)
# Workers don't talk to each other: nobody here listens to that, and it makes each start a second longer.
QUIET = ("--without-gossip", "--without-mingle")

common = Settings.read()
logs.set_up(common.log_level, common.log_format)
settings = JobSettings.read()
celery = celery_app(settings)
attempts = Attempts(settings)
presence = Presence(settings)


@celery.task(name=RUN_JOB)
def run_job(job_id: object) -> None:
    attempts.run(job_id)


@signals.setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Celery sets up logging of its own unless somebody is connected to this signal."""


@signals.worker_init.connect
def begin(**_: Any) -> None:
    """Only of a worker: Celery's other commands import this module too, and run no job that they could tell of."""
    telemetry.set_up_worker(common.log_level, common.log_format)


@signals.heartbeat_sent.connect
def show(**_: Any) -> None:
    presence.show()


@signals.worker_process_shutdown.connect
def close(**_: Any) -> None:
    attempts.close()


@signals.worker_shutdown.connect
def end(**_: Any) -> None:
    presence.end()


def main(arguments: list[str]) -> str | None:
    """What is wrong, or None."""
    named = [each for each in arguments if each.startswith(("-Q", "--queues"))]
    if named or (arguments and not arguments[0].startswith("-")):
        return ONE_QUEUE
    if "--without-heartbeat" in arguments:
        return HEARTBEAT
    # Celery names a worker after its host, and two of the same name take each other's remote control away.
    name = f"--hostname={os.getpid()}@%h"
    # What `celery worker` is given. To come by the command `celery`, with all of its others, takes 0.3 s. When it is
    # quiet, it prints no banner among the lines of the log.
    context = CLIContext(celery, no_color=True, workdir=None, quiet=True)
    log.info("Celery's worker listens to the queue %s", settings.queue_name)
    celery_worker.main([name, *QUIET, *arguments], prog_name="app.worker", obj=context)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

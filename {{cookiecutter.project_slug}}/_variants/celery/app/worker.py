"""`python -m app.worker`: Celery's own worker, on this project's queue. It takes the options of `celery worker`.

`python -m app.worker health` says whether one of this host is alive, for a container's probe.
"""

import asyncio
import sys
from typing import Any

from celery import Celery, signals

from app import logging as app_logging
from app.jobs.attempts import Attempts
from app.jobs.broker import RUN_JOB, celery_app
from app.jobs.presence import Presence, health
from app.jobs.settings import JobSettings
from app.settings import Settings

ONE_QUEUE = (
    "app.worker: a worker listens to exactly one queue, the one that QUEUE_NAME names, for that is where the web "
    "server's relay hands jobs over and counts what waits. Start a worker for each queue instead."
)
# Chatter between workers that nobody here listens to; to begin with it makes each start a second longer.
QUIET = ("--without-gossip", "--without-mingle")


def worker_app(settings: JobSettings) -> Celery:
    celery = celery_app(settings)
    attempts = Attempts(settings)
    celery.task(name=RUN_JOB)(attempts.run)
    return celery


def main(arguments: list[str]) -> int | str | None:
    """What is wrong, if something is."""
    if arguments == ["health"]:
        return asyncio.run(health(JobSettings.read()))
    if any(each.startswith(("-Q", "--queues")) or not each.startswith("-") for each in arguments[:1]):
        return ONE_QUEUE
    level, settings = Settings.read().log_level, JobSettings.read()
    app_logging.set_up(level)
    presence = Presence(settings)

    # Celery keeps its receivers weakly.
    @signals.setup_logging.connect(weak=False)
    def ours(**_: Any) -> None:
        """Set up already."""

    @signals.heartbeat_sent.connect(weak=False)
    def show(**_: Any) -> None:
        presence.show()

    @signals.worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        presence.end()

    return worker_app(settings).worker_main(["worker", *QUIET, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m app.worker`: Dramatiq's own workers, on this project's queue. It takes the options of `dramatiq`.

`python -m app.worker health` says whether a worker of this host is alive, for a container's probe.
"""

import sys

if __name__ == "__main__" and sys.argv[1:] == ["health"]:  # before all that only a worker needs is imported
    from app.jobs.probe import health

    sys.exit(health())

import logging
import multiprocessing
import os
import signal
import threading
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress

import dramatiq
from dramatiq import Broker, Worker, cli
from dramatiq.middleware import Middleware, TimeLimit

from app import logs, telemetry
from app.jobs.attempts import Attempts
from app.jobs.broker import RUN_JOB, Encoder
from app.jobs.presence import Presence
from app.jobs.settings import MAX_TIMEOUT_SECONDS, JobSettings
from app.jobs.transport import tune, worker_broker
from app.settings import Settings

log = logging.getLogger("app.worker")  # as a command, this module has another name
LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0  # from the signal until the stop begins: Dramatiq looks for signals once a second
ONE_QUEUE = (
    "app.worker: a worker listens to exactly one queue, the one that QUEUE_NAME names, for that is where the web "
    "server's relay hands jobs over and counts what waits. Start a worker for each queue instead."
)


class Process(Middleware):
    """What each process of a worker does besides its jobs."""

    def __init__(self, settings: JobSettings, attempts: Attempts) -> None:
        self._settings = settings
        self._attempts = attempts
        self._stops = threading.Event()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        tune(worker)
        self._presence = Presence(self._settings)
        self._parent = parent.pid if (parent := multiprocessing.parent_process()) else os.getppid()
        threading.Thread(target=self._watch, daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._stops.set()

    def before_worker_thread_shutdown(self, broker: Broker, thread: object) -> None:
        self._attempts.close()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._presence.end()
        telemetry.end_worker()

    def _watch(self) -> None:
        """Ends this process when its parent is dead. Dramatiq does not notice that, and the process would stay for
        ever."""
        while self._has_parent():
            self._presence.show()
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._stops.wait(STOP_SECONDS):
            # It has only just started, and is telling its parent so: multiprocessing's Event waits for a dead one for
            # ever.
            os._exit(1)

    def _has_parent(self) -> bool:
        parent = multiprocessing.parent_process()
        if parent and multiprocessing.get_start_method() != "fork":
            return parent.is_alive()  # from Python 3.14 on, a server forks its processes, and has another id
        return os.getppid() == self._parent  # `is_alive` asks a pipe, which later forks of the parent hold open too


def set_up() -> None:
    """Dramatiq calls this in each process."""
    common = Settings.read()
    telemetry.set_up_worker(common.log_level, common.log_format)
    settings = JobSettings.read()
    attempts = Attempts(settings)
    # None of Dramatiq's other middleware: it retries nothing, for the relay and the record do that.
    broker = worker_broker(settings, [TimeLimit(), Process(settings, attempts)])

    @dramatiq.actor(actor_name=RUN_JOB, queue_name=settings.queue_name, broker=broker)
    def run_job(job_id: object) -> None:
        with suppress(Exception):  # the runner has logged it and written it down
            attempts.run(job_id)

    dramatiq.set_broker(broker)
    dramatiq.set_encoder(Encoder(settings.queue_name))


def parsed(arguments: list[str]) -> Namespace:
    parser: ArgumentParser = cli.make_argument_parser()  # type: ignore[no-untyped-call]
    # By default a worker that is told to stop waits for its jobs for ten minutes, and then ends with 0 all the same.
    parser.set_defaults(worker_shutdown_timeout=int(MAX_TIMEOUT_SECONDS * 1000))
    return parser.parse_args(["app.worker:set_up", *arguments])


def main(arguments: list[str]) -> int | str | None:
    """The exit status, or what is wrong, or None."""
    options = parsed(arguments)
    if options.queues or options.modules:
        return ONE_QUEUE
    common = Settings.read()
    logs.set_up(common.log_level, common.log_format)
    log.info("starting Dramatiq's workers on the queue %s", JobSettings.read().queue_name)
    options.skip_logging = True  # set up already
    status: int = cli.main(options)  # type: ignore[no-untyped-call]
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

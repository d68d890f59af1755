"""Runs jobs in the threads of a worker, each of which calls a plain function and waits for its end."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store


class Attempts(threading.local):
    """Each thread has an event loop and connections of its own, which last: to make them anew for each job takes half
    as long again. So a job that blocks its event loop costs no other job its lease."""

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        # They are closed by the end of the process.
        self._store = self._loop.run_until_complete(AsyncExitStack().enter_async_context(Store.open(settings)))

    def run(self, job_id: str) -> None:
        """Raises what the last attempt raised."""
        # Of this job alone: the threads that a stopped job has left behind must not be missing to all that come later.
        threads = ThreadPoolExecutor()
        self._loop.set_default_executor(threads)
        try:
            self._loop.run_until_complete(run(self._store, job_id, self._settings))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

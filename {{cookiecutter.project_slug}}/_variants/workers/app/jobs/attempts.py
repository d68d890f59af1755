"""Runs jobs in the threads of a worker, each of which calls a plain function and waits for its end."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store


class Attempts(threading.local):
    """Each thread has an event loop and connections of its own: a job that blocks its event loop costs no other job its
    lease. They last, and are closed by the end of the process."""

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._opened: tuple[asyncio.AbstractEventLoop, Store] | None = None  # not before a fork: it can't be shared

    def run(self, job_id: str) -> None:
        """Raises what the last attempt raised."""
        loop, store = self._opened = self._opened or self._open()
        # Of this job alone: threads that stopped jobs have left behind must not be missing to all that come later.
        threads = ThreadPoolExecutor()
        loop.set_default_executor(threads)
        try:
            loop.run_until_complete(run(store, job_id, self._settings))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> tuple[asyncio.AbstractEventLoop, Store]:
        loop = asyncio.new_event_loop()
        return loop, loop.run_until_complete(AsyncExitStack().enter_async_context(Store.open(self._settings)))

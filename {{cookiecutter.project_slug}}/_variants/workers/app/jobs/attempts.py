"""Runs jobs in the threads of a worker. Each thread calls a plain function, and waits until it returns."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import NamedTuple

from app.jobs.messages import is_job_id
from app.jobs.runner import run
from app.jobs.settings import JobSettings
from app.jobs.store import Store

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    loop: asyncio.AbstractEventLoop
    stack: AsyncExitStack
    store: Store


class Attempts(threading.local):
    """Each thread has an event loop and connections of its own. So a job that blocks its event loop costs no other job
    its lease."""

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._opened: Opened | None = None  # opened by the first job, after any fork: an event loop can't be shared

    def run(self, job_id: object) -> None:
        """Does nothing if that is no job's id. Raises what the last attempt raised."""
        if not is_job_id(job_id):
            log.warning("a message is dropped: %.100r is no job's id", job_id)
            return
        self._opened = self._opened or self._open()
        # For this job alone: a stopped job may leave threads behind, and later jobs must not have fewer for that.
        threads = ThreadPoolExecutor()
        self._opened.loop.set_default_executor(threads)
        try:
            self._opened.loop.run_until_complete(run(self._opened.store, job_id, self._settings))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Closes what this thread has opened."""
        if self._opened:
            self._opened.loop.run_until_complete(self._opened.stack.aclose())
            self._opened.loop.close()
            self._opened = None

    def _open(self) -> Opened:
        loop, stack = asyncio.new_event_loop(), AsyncExitStack()
        return Opened(loop, stack, loop.run_until_complete(stack.enter_async_context(Store.open(self._settings))))

"""Best-effort work after the response: `tasks.add_task(background.run, record, feedback, once=event_id)`.

A restart loses it; work that must not be lost is a job.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.background import BackgroundTask

from app.contain import contained
from app.shutdown import Shutdown

log = logging.getLogger(__name__)
REMEMBERED = 10_000  # event ids, the oldest forgotten first: about 2 MB


class Background:
    """Runs tasks, and remembers in this process which event ids are done."""

    def __init__(self, shutdown: Shutdown) -> None:
        self.shutdown = shutdown
        self._done: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, asyncio.Event] = {}

    async def run(self, function: Callable[..., Any], *args: Any, once: str | None = None, **kwargs: Any) -> None:
        """Runs `function`, sync or async. Logs what it raises, so that the tasks after it still run.

        `once` is the id of an event. If it was done before, the function is skipped; if it failed, it is tried again.
        While the same id runs, a second call waits for its outcome.
        """
        task = BackgroundTask(function, *args, **kwargs)
        if once is None:
            await self._attempt(task)
            return
        while other := self._running.get(once):
            await other.wait()
        if once in self._done:
            log.info("background task skipped: %r is done", once)
            return
        self._running[once] = asyncio.Event()
        try:
            if await self._attempt(task):
                self._done[once] = None
                if len(self._done) > REMEMBERED:
                    self._done.popitem(last=False)
        finally:
            self._running.pop(once).set()

    async def _attempt(self, task: BackgroundTask) -> bool:
        name = getattr(task.func, "__name__", repr(task.func))
        try:
            if task.is_async:
                return await self.shutdown.limit(task(), f"background task {name}")
            # A thread can't be stopped, and Python's own exit waits for it.
            with self.shutdown.at_limit(lambda: log.error("background task %s can't be interrupted", name)):
                await contained(task())
        except Exception:
            log.exception("background task %s failed", name)
            return False
        return True

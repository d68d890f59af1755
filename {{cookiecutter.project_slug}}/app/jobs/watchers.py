"""Who in this process waits for news of which job."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Watchers:
    def __init__(self) -> None:
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """Gives an event that is set whenever there may be news of the job. Whoever waits for it clears it."""
        self._events[job_id].add(event := asyncio.Event())
        try:
            yield event
        finally:
            self._events[job_id].discard(event)
            if not self._events[job_id]:
                del self._events[job_id]

    def tell(self, job_id: str) -> None:
        for event in self._events.get(job_id, ()):
            event.set()

    def tell_all(self) -> None:
        for job_id in self._events:
            self.tell(job_id)

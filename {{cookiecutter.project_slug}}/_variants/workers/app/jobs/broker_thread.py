"""A connection to the broker that the event loop can use, though the broker's client is synchronous."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync

from app.jobs.broker import Sender
from app.jobs.settings import JobSettings
from app.redis_client import ANSWER_SECONDS

T = TypeVar("T")


class BrokerThread:
    """A broker that stalls takes no thread from the application. A caller that is cancelled leaves this one behind, and
    the next caller is refused until it is free."""

    def __init__(self, settings: JobSettings) -> None:
        self.sender = Sender(settings)
        self._limiter = CapacityLimiter(1)
        self._busy = threading.Lock()
        self._closed = False

    async def ask(self, call: Callable[[], T]) -> T:
        return await run_sync(self._ask, call, limiter=self._limiter, abandon_on_cancel=True)

    def _ask(self, call: Callable[[], T]) -> T:
        if not self._busy.acquire(blocking=False):
            raise TimeoutError("the broker has not answered the last call")
        try:
            return call()
        except Exception:
            return call()  # on a new connection: the one before may be from before a restart of the broker
        finally:
            if self._closed:
                self.sender.close()
            self._busy.release()

    async def close(self) -> None:
        self._closed = True  # a thread that was left behind closes it, should it ever come back
        with suppress(TimeoutError), move_on_after(ANSWER_SECONDS):
            await self.ask(self.sender.close)

"""Figures of this moment, such as how many streams are open: how they are looked at when the metrics are told.

Threads tell the metrics, and what is looked at belongs to the event loop. So a thread asks the loop for all figures at
once. No figure is kept: what can't be looked at, because a store is away, say, has none.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

ANSWER_SECONDS = 1.0  # of a store that is asked
FRESH_SECONDS = 0.05  # from one figure to the next, as the metrics are told
TICK_SECONDS = 0.25
LAG_SECONDS = 60.0  # so that a look once a minute sees each

Observed = Mapping[str, Iterable[Observation]]
Figure = Callable[["Running"], Awaitable[Iterable[Observation]]]
figures: dict[str, Figure] = {}


class Running:
    """A server that runs. `lag` is how late its event loop came at worst in the last LAG_SECONDS, and `drains_since` is
    when it began to drain, of `time.monotonic`."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        """`state` is what the rooms' lifespans have yielded. Must be called on the event loop."""
        self.state = state
        self.lag = 0.0
        self.drains_since: float | None = None
        self._lags = deque[float](maxlen=int(LAG_SECONDS / TICK_SECONDS))
        self._served_on = asyncio.get_running_loop()
        self._ticks = asyncio.create_task(self._tick(), name="event loop lag")
        self._asking = threading.Lock()
        self._observed: Observed = {}
        self._fresh_until = 0.0

    def observed(self) -> Observed:
        """For a thread. Waits until the event loop has looked."""
        with self._asking:
            if monotonic() > self._fresh_until:
                looked = asyncio.run_coroutine_threadsafe(self._look(), self._served_on)
                try:
                    self._observed = looked.result(2 * ANSWER_SECONDS)
                except TimeoutError:  # the event loop itself does not come
                    looked.cancel()
                    self._observed = {}
                self._fresh_until = monotonic() + FRESH_SECONDS
            return self._observed

    async def end(self) -> None:
        self._ticks.cancel()
        await asyncio.wait({self._ticks})

    async def _look(self) -> Observed:
        looks = {name: asyncio.ensure_future(figure(self)) for name, figure in figures.items()}
        done, late = await asyncio.wait(looks.values(), timeout=ANSWER_SECONDS)
        for look in late:
            look.cancel()
            look.add_done_callback(_failed)  # a thread that waits for a broker ends when it may
        return {name: look.result() for name, look in looks.items() if look in done and not _failed(look)}

    async def _tick(self) -> None:
        while True:
            due = monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._lags.append(max(0.0, monotonic() - due))
            self.lag = max(self._lags)
            if self.state["shutdown"].draining and self.drains_since is None:
                self.drains_since = monotonic()


running: list[Running] = []
"""The servers of this process, which has more than one only in tests."""


def figure(name: str, unit: str, described: str) -> Callable[[Figure], Figure]:
    """Marks how the metric of that name is looked at."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return running[-1].observed().get(name, ()) if running else ()

    def register(look: Figure) -> Figure:
        figures[name] = look
        get_meter("app").create_observable_gauge(name, [observe], unit, described)
        return look

    return register


def _failed(look: "asyncio.Future[Iterable[Observation]]") -> bool:
    """Whoever needs the store to work says that it is away."""
    return look.cancelled() or look.exception() is not None

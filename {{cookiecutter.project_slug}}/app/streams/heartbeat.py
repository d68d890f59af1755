"""Fills silence, so that no proxy on the way takes a connection for dead."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from app.streams.events import Event, KeepAlive
from app.streams.log import Log, MemoryLog
from app.streams.source import Run, TimeLeft


async def with_heartbeat(
    events: Log | AsyncIterator[Event], seconds: float, after: int = 0, time_left: TimeLeft | None = None
) -> AsyncGenerator[Sequence[Event], None]:
    """Events that are ready together as one batch, and `[KeepAlive()]` for each `seconds` of silence.

        async for batch in with_heartbeat(words(), seconds=10):
            for event in batch:
                await write(encode(event, None))

    The last event is a `Done`. Of a log, the first `after` events are left out. To stop before the end, close it
    (`aclosing`): then an iterator is closed as well. An iterator is also ended when `time_left` raises.
    """
    run = None
    if not isinstance(events, Log):
        run = Run(events, into := MemoryLog(one_reader=True), time_left)
        events = into
    try:
        while (batch := await events.after(after, seconds)) is not None:
            after += len(batch)
            yield batch or [KeepAlive()]
    finally:
        if run:
            await run.close()

"""An answer in one piece, for a client that does not want a stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.types import Receive

from app import telemetry
from app.chat.answer import Answer
from app.logs import request_id
from app.shutdown import Shutdown
from app.streams.events import Done, Error, Event, StreamFault
from app.streams.heartbeat import with_heartbeat


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def whole_answer(answer: Answer, receive: Receive, shutdown: Shutdown) -> list[Event]:
    """Waits for the answer, and returns its events.

    Raises StreamFault if the model fails, if the answer is stopped, or if the drain time is over, and ClientLeft if the
    client has left: the server cancels no handler, so this function listens itself.
    """
    leaving, outcome = asyncio.create_task(_left(receive)), "failed"
    try:
        with answer.reading(), anyio.CancelScope() as waiting, shutdown.at_limit(waiting.cancel):
            leaving.add_done_callback(lambda _: waiting.cancel())
            async with aclosing(with_heartbeat(answer.log, seconds=60)) as batches:
                events, outcome = await _all(batches), "end"
                return events
        if leaving.done():
            outcome = "left"
            raise ClientLeft
        raise StreamFault(Error("server_shutdown", "The server is restarting.", True, request_id.get()), "shutdown")
    except StreamFault as fault:
        outcome = "sent_back" if fault.reason == "shutdown" else "end"
        raise
    finally:
        leaving.cancel()
        telemetry.reader_ended(outcome)


async def _all(batches: AsyncIterator[Sequence[Event]]) -> list[Event]:
    events: list[Event] = []
    async for batch in batches:
        await checkpoint_if_cancelled()  # a model that never waits would be ahead of each attempt to cancel this
        for event in batch:
            if isinstance(event, Error):
                raise StreamFault(event)
            if event == Done("cancelled"):
                raise StreamFault(Error("cancelled", "The answer was stopped.", False, request_id.get()), "cancelled")
            events.append(event)
    return events


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

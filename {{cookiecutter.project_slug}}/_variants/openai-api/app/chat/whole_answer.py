"""An answer in one piece, for a client that does not want a stream."""

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import anyio
from starlette.types import Receive

from app.chat.generation import Generation
from app.logs import request_id
from app.shutdown import Shutdown
from app.streams.events import Error, StreamFault, Token

log = logging.getLogger(__name__)
CLEANUP_SECONDS = 5.0


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def whole_answer(generation: Generation, receive: Receive, shutdown: Shutdown) -> str:
    """Waits for the answer, and returns its text.

    Raises StreamFault if the model fails, or if the drain time is over. Raises ClientLeft if the client has left: the
    server cancels no handler, so this function listens itself.
    """
    reading, leaving = asyncio.create_task(_text(generation)), asyncio.create_task(_left(receive))
    limit: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ends: set[asyncio.Future[Any]] = {reading, leaving, limit}
    try:
        with shutdown.at_limit(limit.cancel):
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            raise ClientLeft
        if not reading.done():
            error = Error("server_shutdown", "The server is restarting.", True, request_id.get())
            raise StreamFault(error, "shutdown")
        if reading.cancelled():
            log.error("the model has cancelled itself")
            error = Error("model_error", "The model could not answer.", True, request_id.get())
            raise StreamFault(error, "error")
        return reading.result()
    finally:
        leaving.cancel()
        reading.cancel()
        with anyio.CancelScope(shield=True):  # the model must be closed, even if this is cancelled
            await asyncio.wait({reading}, timeout=CLEANUP_SECONDS)
        if not reading.done():
            log.error("a model has not closed in %g s", CLEANUP_SECONDS)
        elif not reading.cancelled():
            reading.exception()  # asyncio complains of an exception that nobody has seen


async def _text(generation: Generation) -> str:
    texts = []
    async with aclosing(generation.events()) as events:
        async for event in events:
            if isinstance(event, Token):
                texts.append(event.text)
            await asyncio.sleep(0)  # a model that never waits would starve everybody else
    # Two pieces may hold the halves of a UTF-16 pair. Together they are one character. A half without the other is
    # replaced.
    return "".join(texts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

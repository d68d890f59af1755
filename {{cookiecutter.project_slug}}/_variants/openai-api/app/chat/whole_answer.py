"""An answer in one piece, for a client that does not want a stream."""

import asyncio
from contextlib import aclosing
from typing import Any

from starlette.types import Receive

from app.chat.generation import Generation
from app.logs import request_id
from app.shutdown import Shutdown
from app.streams.events import Error, StreamFault, Token
from app.streams.heartbeat import with_heartbeat
from app.streams.log import Log
from app.streams.source import log_of


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def whole_answer(generation: Generation, receive: Receive, shutdown: Shutdown) -> str:
    """Waits for the answer, and returns its text.

    Raises StreamFault if the model fails, or if the drain time is over. Raises ClientLeft if the client has left: the
    server cancels no handler, so this function listens itself.
    """
    async with log_of(generation.events(), generation.time_left) as log:
        reading, leaving = asyncio.create_task(_text(log)), asyncio.create_task(_left(receive))
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ends: set[asyncio.Future[Any]] = {reading, leaving, expired}
        try:
            with shutdown.at_limit(expired.cancel):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                raise ClientLeft
            if not reading.done():
                error = Error("server_shutdown", "The server is restarting.", True, request_id.get())
                raise StreamFault(error, "shutdown")
            return reading.result()
        finally:
            leaving.cancel()
            reading.cancel()


async def _text(log: Log) -> str:
    texts = []
    async with aclosing(with_heartbeat(log, seconds=60)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Error):
                    raise StreamFault(event)
                if isinstance(event, Token):
                    texts.append(event.text)
    # Two pieces may hold the halves of a UTF-16 pair. Together they are one character. A half without the other is
    # replaced.
    return "".join(texts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

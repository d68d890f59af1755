"""The client of a stream: what it takes, whether it has left, and how it is cut off."""

import asyncio
import logging
from collections.abc import Set
from time import monotonic
from typing import Any

from starlette.types import Receive, Send

log = logging.getLogger(__name__)
CUT_SECONDS = 0.4
SLICE_BYTES = 32 * 1024


class Client:
    def __init__(self, receive: Receive, send: Send, transport: Any) -> None:
        """`transport` is the connection's, or None where the server keeps that to itself."""
        self.leaving = asyncio.create_task(self._left(receive))
        self.sending = False
        self._ended = False
        self._send = send
        self._transport = transport
        self._since = 0.0  # when the slice began that is being sent

    async def put(self, frames: bytes, more: bool = True) -> None:
        """Returns when the server has taken all of it. Does nothing after the end. What was interrupted in the middle
        can't be continued."""
        if self._ended:
            return
        self.sending = True
        for start in range(0, len(frames) or 1, SLICE_BYTES):
            self._since, end = monotonic(), start + SLICE_BYTES
            more_body = more or end < len(frames)
            await self._send({"type": "http.response.body", "body": frames[start:end], "more_body": more_body})
        self.sending, self._ended = False, not more

    async def watch(self, tasks: "Set[asyncio.Future[None]]", seconds: float) -> None:
        """Returns when one of `tasks` has ended, or the client has not taken a slice for `seconds`."""
        wait = seconds
        while not (await asyncio.wait(tasks, timeout=wait, return_when=asyncio.FIRST_COMPLETED))[0]:
            quiet = monotonic() - self._since if self.sending else 0.0
            if quiet >= seconds:
                log.warning("the client has taken nothing for %g s", seconds)
                return
            wait = seconds - quiet

    @property
    def left(self) -> bool:
        return self.leaving.done() and not self.leaving.cancelled() and self.leaving.exception() is None

    async def close(self) -> None:
        """Cuts the connection if the response has no end: else a reader would take a part for the whole. Raises
        ConnectionError where there is no transport: another server may understand that."""
        try:
            if not self._ended and not self.left:
                if self._transport is None:
                    raise ConnectionError("a stream that can't be ended properly")
                self._transport.abort()
                await asyncio.wait({self.leaving}, timeout=CUT_SECONDS)  # uvicorn complains unless it knows
        finally:
            self.leaving.cancel()

    async def _left(self, receive: Receive) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except Exception:  # the body is too large, say, and the stream has begun
            log.exception("the request can't be read to its end")
            raise

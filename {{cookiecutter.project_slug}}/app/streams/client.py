"""The client of a stream: what it takes, whether it has left, and how it is cut off."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import anyio
from starlette.types import Receive, Send

from app import telemetry
from app.connections import limit_silence

log = logging.getLogger(__name__)
CUT_SECONDS = 0.4
SLICE_BYTES = 32 * 1024


class Client:
    def __init__(
        self, receive: Receive, send: Send, transport: Any, patience: float, lost: Callable[[], object]
    ) -> None:
        """`transport` is the connection's, or None where the server keeps that to itself. Calls `lost` when the client
        leaves, or has not taken a slice for `patience`, in seconds."""
        self._send = send
        self._transport = transport
        self._patience = patience
        self._lost = lost
        self._since: float | None = None  # when that was handed to the server which it has not taken yet
        self._ended = False
        self._stalled = False
        self.left = False
        self.why = ""  # for `telemetry.reader_ended`, where it does not read to the end of the log
        self._leaving = asyncio.create_task(self._left(receive))
        self._leaving.add_done_callback(lambda _: lost())
        if transport is not None:
            # Twice, so that of one who is there and takes nothing it is we who tell the log.
            limit_silence(transport, 2 * patience)
        self._look()

    @property
    def sending(self) -> bool:
        """Whether something is on its way. What was interrupted there can't be continued."""
        return self._since is not None

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._since = monotonic()
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self._since = None

    async def put(self, frames: bytes, more: bool = True) -> None:
        """Returns when the server has taken all of it. Does nothing after the end."""
        if not self._ended:
            for start in range(0, len(frames) or 1, SLICE_BYTES):
                self._since, end = monotonic(), start + SLICE_BYTES
                more_body = more or end < len(frames)
                await self._send({"type": "http.response.body", "body": frames[start:end], "more_body": more_body})
            self._since, self._ended = None, not more

    async def aclose(self) -> None:
        """Cuts the connection if the response has no end: else a reader would take a part for the whole. Raises
        ConnectionError where there is no transport: another server may understand that.

        Once nobody is there any more the response gets its end, which the server leaves out: whoever measures responses
        would take one without it for a fault of this service.
        """
        outcome = self._outcome()
        try:
            if not self._ended and not self.left:
                if self._transport is None:
                    raise ConnectionError("a stream that can't be ended properly")
                self._transport.abort()
                with anyio.CancelScope(shield=True):  # whoever cancels the response may cancel each `await` of it
                    await asyncio.wait({self._leaving}, timeout=CUT_SECONDS)  # uvicorn complains unless it knows
            if not self._ended and self.left:
                # A server may say by an OSError that nobody is there (ASGI, HTTP 2.4), or not say it at all.
                with suppress(OSError), anyio.move_on_after(CUT_SECONDS, shield=True):
                    await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._timer.cancel()
            self._leaving.cancel()
            telemetry.reader_ended(outcome)

    def _outcome(self) -> str:
        if self._ended:
            return self.why or "end"
        return "left" if self.left else "stalled" if self._stalled else self.why or "failed"

    def _look(self) -> None:
        quiet = monotonic() - self._since if self._since is not None else 0.0
        if quiet < self._patience:
            self._timer = asyncio.get_running_loop().call_later(self._patience - quiet, self._look)
        else:
            log.warning("the client has taken nothing for %g s", self._patience)
            self._stalled = True
            self._lost()

    async def _left(self, receive: Receive) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left = True
        except Exception:  # the body is too large, say, and the stream has begun
            log.exception("the request can't be read to its end")

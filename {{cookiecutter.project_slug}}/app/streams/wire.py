"""The way of events to one client: in order, numbered, and nothing after a `Done`."""

import asyncio

from starlette.types import Send

from app.streams.events import Done, Encoder, Event


class NoReader(Exception):
    """Why nothing more can be sent."""


class Wire:
    def __init__(self, send: Send, encoder: Encoder, first_id: int, send_timeout: float) -> None:
        self._send = send
        self.encoder = encoder
        self.next_id = first_id
        self.send_timeout = send_timeout
        self.done = False

    async def put(self, *events: Event, numbered: bool = True) -> None:
        """Sends `events` in one piece; those before one that can't be encoded go out before its error is raised."""
        frames: list[bytes] = []
        try:
            for event in events:
                if not self.done:
                    frames.append(self.encoder(event, self.next_id if numbered else None))
                    self.next_id += numbered
                    self.done = isinstance(event, Done)
        finally:
            if frames:
                await self._put(b"".join(frames))

    async def _put(self, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self.send_timeout):
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError as error:
            raise NoReader(f"the client has taken nothing for {self.send_timeout:g} s") from error
        except OSError as error:  # how a server of ASGI 2.4 may say it
            raise NoReader("the client has left") from error

"""Bounds what a model's service may send. Its SDK keeps an event until that has ended, and an error as a whole."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import httpx2

from app.chat.providers.base import ModelError

MOST_BYTES = 1024 * 1024
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


async def bound(response: httpx2.Response) -> None:
    """For the SDK's client, as a hook of its responses: to read one raises ModelError once it is too long."""
    sent = response.stream
    assert isinstance(sent, httpx2.AsyncByteStream), "the client is asynchronous"
    pieces: AsyncIterable[bytes] = sent
    if "content-encoding" in response.headers:  # a few bytes may be many
        pieces = httpx2.Response(response.status_code, headers=response.headers, stream=sent).aiter_bytes()
        del response.headers["content-encoding"]
    response.stream = Bounded(pieces, sent.aclose, has_events=response.is_success)


class Bounded(httpx2.AsyncByteStream):
    """The body of a response. Raises ModelError after MOST_BYTES of one event, or of a body that has no events."""

    def __init__(self, pieces: AsyncIterable[bytes], close: Callable[[], Awaitable[None]], *, has_events: bool) -> None:
        self._pieces = pieces
        self._close = close
        self._has_events = has_events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        kept, before = 0, b""
        async for piece in self._pieces:
            text = before + piece  # an event may end between two pieces
            end = max(map(text.rfind, EVENT_ENDS)) if self._has_events else -1
            kept = kept + len(piece) if end < 0 else len(text) - end
            if kept > MOST_BYTES:
                what = "event" if self._has_events else "error"
                raise ModelError(f"the service has sent more than {MOST_BYTES:,} bytes of one {what}")
            before = text[-3:]
            yield piece

    async def aclose(self) -> None:
        await self._close()

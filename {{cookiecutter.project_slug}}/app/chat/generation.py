"""Turns a model's answer into the events of a chat stream."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.chat.providers.base import Finish, Message, Provider
from app.logging import request_id
from app.streams.events import Done, Error, Event, Status, StreamFault, Token

log = logging.getLogger(__name__)
END = Finish()  # of a model that doesn't say how it finished


async def answer(
    provider: Provider, messages: Sequence[Message], stream_id: str, *, seconds: float, max_chars: int
) -> AsyncGenerator[Event, None]:
    """`seconds` is the time limit to the first piece and between pieces. Past `max_chars` it ends as `length`."""
    yield Status("thinking", stream_id)
    reason: str
    answered = False
    async with aclosing(provider.stream(messages)) as pieces:
        while True:
            try:
                async with asyncio.timeout(seconds) as limit:
                    piece = await anext(pieces, END)
                if not isinstance(piece, str | Finish):
                    raise TypeError(f"a provider yields str or Finish, not {type(piece).__name__}")
                if piece is END and not answered:
                    raise ValueError("the model has ended without a word")
            except Exception as error:
                if limit.expired():
                    log.error("the model has said nothing for %g s", seconds)
                    raise _fault("model_timeout", "The model took too long to answer.", "timeout") from error
                log.exception("the model failed")
                raise _fault("model_error", "The model could not answer.", "error") from error
            if isinstance(piece, Finish):
                reason = piece.reason
                break
            if text := piece[:max_chars]:
                answered = True
                yield Token(text)
            if len(piece) > max_chars:
                reason = "length"
                break
            max_chars -= len(piece)
    yield Done(reason)


def _fault(code: str, message: str, reason: str) -> StreamFault:
    return StreamFault(Error(code, message, True, request_id.get()), reason)

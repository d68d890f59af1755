"""Turns a model's answer into the events of a chat stream."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from secrets import token_hex
from sys import getsizeof
from time import monotonic

from app import telemetry
from app.chat.asides import Asides
from app.chat.providers.base import Asker, Finish, Message, ModelError, Provider
from app.chat.well_formed import Pieces
from app.contain import contained
from app.logs import request_id
from app.streams.events import Busy, Done, Error, Event, KeepAlive, Status, StreamFault, Token

log = logging.getLogger(__name__)
END = Finish()  # for a model that doesn't say how it finished
MESSAGE_BYTES = 500  # about, besides its text


class Generation:
    """Asks the model once. When its events have ended, `reason` says how the model ended, and `usage` what it took.

    `question_bytes` is about what the messages take while the model runs. `text` is what has been made so far, also of
    an answer that was stopped or has failed.
    """

    def __init__(
        self,
        provider: Provider,
        messages: Sequence[Message],
        *,
        caller: str,
        key: str | None = None,
        seconds: float,
        max_chars: int,
        show_reasoning: bool = True,
    ) -> None:
        """`key` is the question's, and the same if that is asked again. By default it is this answer's id.

        `seconds` limits the wait for each piece. Past `max_chars` of text the answer is cut, and ends as `length`. So
        it does past as many of reasoning, and where tools are called without end."""
        self.id = token_hex(16)
        self.model = provider.model
        self.told = telemetry.Answering(provider.service, provider.model)
        self.reason = "cancelled"  # until it gets to an end
        self.usage: Mapping[str, int] = {}
        self._texts: list[str] = []
        self._provider = provider
        self._messages: Sequence[Message] = messages
        self.question_bytes = sum(MESSAGE_BYTES + getsizeof(message.content) for message in messages)
        self._seconds = seconds
        self._asker = Asker(caller, key or self.id)
        self._pieces = Pieces()
        self._chars_left = max_chars
        self._asides = Asides(max_chars, show_reasoning)
        self._asked: float | None = None  # when its next piece was asked for

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def time_left(self) -> float:
        """Seconds until the model has said nothing for too long. Raises StreamFault when it has."""
        left = self._seconds - (0.0 if self._asked is None else monotonic() - self._asked)
        if left > 0:
            return left
        log.error("the model has said nothing for %g s", self._seconds)
        self.reason = "timeout"
        message = "The model took too long to answer."
        raise StreamFault(Error("model_timeout", message, True, request_id.get()), self.reason)

    def events(self) -> AsyncGenerator[Event, None]:
        """Yields `status`; a `token` for each piece of text, and between them what the model thinks, and its tools; and
        `done`. Raises StreamFault if the model fails."""
        messages, self._messages = self._messages, ()  # a chat's whole history: it is gone when the events have ended
        return self._events(messages)

    async def _events(self, messages: Sequence[Message]) -> AsyncGenerator[Event, None]:
        self.told.begin(messages)
        yield Status("thinking", self.id)
        async with aclosing(self._provider.stream(messages, self._asker)) as pieces:
            while True:
                self._asked = monotonic()
                try:
                    piece = await contained(anext(pieces, END))
                    if not isinstance(piece, str | Finish | Event):
                        raise TypeError(f"a provider yields str, Event or Finish, not {type(piece).__name__}")
                    if isinstance(piece, Done | Error | KeepAlive):
                        raise TypeError(f"a provider yields no {type(piece).__name__}: see `Provider.stream`")
                    if piece is END and not self._texts:
                        raise ValueError("the model has ended without a word")
                except Exception as error:
                    raise self._fault(error) from error
                self._asked = None  # the wait for a reader is not the model's
                if isinstance(piece, Finish):
                    self.reason, self.usage = piece.reason, piece.usage
                    yield Done(self.reason)  # before the model is closed: however that goes, the answer is whole
                    return
                if piece:  # an empty one shows nothing to a reader
                    self.told.piece()
                if shown := self._shown(piece):
                    yield shown
                else:
                    await asyncio.sleep(0)  # a model that is thinking, and never waits, must not hold up the process
                if self._chars_left < 0 or self._asides.full:
                    self.reason = "length"
                    yield Done(self.reason)
                    return

    def _shown(self, piece: str | Event) -> Event | None:
        """What a reader gets of it, within the limits."""
        if isinstance(piece, Event):
            return self._asides.shown(piece)
        piece = self._pieces.well_formed(piece)
        text = piece[: self._chars_left]
        self._chars_left -= len(piece)
        if not text:
            return None
        self._texts.append(text)
        return Token(text)

    def _fault(self, error: Exception) -> StreamFault:
        self.reason = "error"
        if isinstance(error, ModelError):
            log.error("the model failed: %s", error)
        else:
            log.error("the model failed", exc_info=error)
            error = ModelError("")
        told = (error.code, error.message, error.retryable, request_id.get())
        return StreamFault(Error(*told) if error.retry_after is None else Busy(*told, error.retry_after), self.reason)

"""What a model must offer: messages in, the answer out, piece by piece."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, FailFast, Field

from app.streams.events import Event


def _is_well_formed(text: str) -> str:
    """Refuses half of a UTF-16 pair: JSON's escapes may bring one, but UTF-8 can't carry it to a model."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be well-formed Unicode, without lone surrogates") from None
    return text


Text = Annotated[str, AfterValidator(_is_well_formed)]
T = TypeVar("T")
Items = Annotated[list[T], FailFast(), Field(max_length=10_000)]
"""A list in a request's body. The first fault ends its validation, for a MiB of `{}` has 350,000."""


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: Text


@dataclass(frozen=True)
class Asker:
    """Who asks, by the caller's name. `key` is the same if the same question is asked again, as by its
    `Idempotency-Key` after a failure. Make keys of it for what must not happen twice, such as an order by a tool."""

    caller: str
    key: str


@dataclass(frozen=True)
class Finish:
    """How an answer ended, if the model says so. `usage` has counts: `input_tokens`, `output_tokens`, and of these
    `reasoning_tokens`."""

    reason: Literal["end", "length", "refusal"] = "end"
    usage: Mapping[str, int] = field(default_factory=dict)


class ModelError(Exception):
    """The model's service says that it failed. The text is one line for the log, without secrets.

    `retryable` is false if it would fail again in the same way, as with a wrong key. `code` and `message` are for the
    reader. `retry_after` is how many seconds the service asks to wait, if it says so. Any other exception that a
    provider raises is logged with its traceback, and is retryable.
    """

    def __init__(
        self,
        text: str,
        retryable: bool = True,
        code: str = "model_error",
        message: str = "The model could not answer.",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.retryable = retryable
        self.code = code
        self.message = message
        self.retry_after = retry_after


class Provider(Protocol):
    @property
    def service(self) -> str:
        """The name of the model's service, for `app/telemetry.py`."""
        ...

    @property
    def model(self) -> str:
        """The name of the model, as its service knows it."""
        ...

    def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        """Yields the answer's text as it is made, a `Reasoning` for what the model thinks, and a `Tool` for each
        call and for what it gives. A `Finish`, if there is one, comes last. Raises ModelError when the model's
        service fails.

        An empty piece says that the model is at work: the time limit of its silence begins anew. An Event of the
        provider's own is passed on as it is. It may be of any kind except `Error`, `Done` and `KeepAlive`.

        The generator is cancelled where it waits, and closed, when the answer is stopped, or nobody has read it for too
        long. What it holds open belongs in a `with` or a `finally`, and has 5 s to close. It outlives the request that
        asked: it opens what it needs itself, and uses nothing that a dependency with `yield` has opened.
        """
        ...

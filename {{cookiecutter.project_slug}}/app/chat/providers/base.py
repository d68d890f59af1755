"""What a model has to offer: messages in, the answer out, piece by piece."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import BaseModel


class Message(BaseModel):
    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Finish:
    """How an answer ended, where the model says so. `usage`: counts such as `{"output_tokens": 17}`."""

    reason: Literal["end", "length", "refusal"] = "end"
    usage: Mapping[str, int] = field(default_factory=dict)


class Provider(Protocol):
    def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | Finish, None]:
        """Yields the answer's text as it is made; a `Finish`, if there is one, comes last.

        The generator is closed when nobody reads any more: what it holds open belongs in a `with` or a `finally`.
        """
        ...

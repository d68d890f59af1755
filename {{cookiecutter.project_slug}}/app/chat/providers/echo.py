"""A model for tests and the first run: it answers `You said: ` and the question, and counts each word as a token."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from app.chat.providers.base import Asker, Finish, Message


class Echo:
    service = model = "echo"

    def __init__(self, token_seconds: float) -> None:
        """`token_seconds` is the pause before each word."""
        self.token_seconds = token_seconds

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Finish, None]:
        words = re.findall(r"\s*\S+|\s+", f"You said: {messages[-1].content}")
        for word in words:
            await asyncio.sleep(self.token_seconds)
            yield word
        yield Finish(
            usage={"input_tokens": sum(len(each.content.split()) for each in messages), "output_tokens": len(words)}
        )

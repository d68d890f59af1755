"""Answers `You said: ` and the question, a word at a time: for tests and the first run."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from app.chat.providers.base import Finish, Message


class Echo:
    def __init__(self, token_seconds: float) -> None:
        self.token_seconds = token_seconds

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | Finish, None]:
        for word in re.findall(r"\s*\S+|\s+", f"You said: {messages[-1].content}"):
            await asyncio.sleep(self.token_seconds)
            yield word

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import cast

from app.chat.providers.base import Asker, Finish, Message
from app.streams.events import Event


class ScriptedProvider:
    """A model that follows a script: yields its pieces, waits for its events and seconds, raises its exceptions."""

    service = model = "scripted"

    def __init__(self, *script: object) -> None:
        self.script = script
        self.asked: list[Sequence[Message]] = []
        self.askers: list[Asker] = []
        self.yielded = 0
        self.closed = asyncio.Event()

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        self.asked.append(messages)
        self.askers.append(asker)
        try:
            for step in self.script:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    self.yielded += 1
                    yield cast(str | Event | Finish, step)
        finally:
            await asyncio.sleep(0)  # a real client closes its connection, which is awaited too
            self.closed.set()

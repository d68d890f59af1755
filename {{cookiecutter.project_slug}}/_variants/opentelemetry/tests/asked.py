"""The application with a model that does what it is asked to; served by `uvicorn tests.asked:app`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.chat.room import chat
from app.main import create_app
from app.streams.events import Event, Reasoning


class Obedient:
    service, model = "acme", "m-1"

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        asked = messages[-1].content
        yield "MARKED"
        if "fail" in asked:
            raise ModelError("on purpose", code="model_busy")
        if "flood" in asked:
            for _ in range(1000):  # more than all buffers on the way
                yield "x" * 32 * 1024
        if "wait" in asked:
            await asyncio.sleep(60)
        yield Reasoning("MARKED")
        yield " answer"
        yield " of three"
        yield Finish("end", {"input_tokens": 3, "output_tokens": 2, "reasoning_tokens": 1})


app = create_app(rooms=[chat(Obedient())])

"""The application of a project, with a model that does what the question says: `uvicorn scripted_app:app`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from app.chat.providers.base import Finish, ModelError  # type: ignore[import-not-found]
from app.chat.providers.echo import Echo  # type: ignore[import-not-found]
from app.chat.room import chat  # type: ignore[import-not-found]
from app.main import create_app  # type: ignore[import-not-found]
from fastapi import FastAPI

log = logging.getLogger("app.scripted")


class Scripted(Echo):  # type: ignore[misc]
    async def stream(self, messages: Any) -> AsyncIterator[Any]:
        question = messages[-1].content
        log.info("asked: %s", question)
        try:
            if question == "fail at once" or not all(message.content for message in messages):
                raise ModelError("on purpose")
            async for piece in super().stream(messages):
                if isinstance(piece, Finish):
                    if question == "fail":
                        raise ModelError("on purpose")
                    if question.startswith("wait"):
                        await asyncio.sleep(600)
                    piece = Finish({"be cut": "length", "refuse": "refusal"}.get(question, "end"), piece.usage)
                yield piece
        finally:
            log.info("closed: %s", question)


app: FastAPI = create_app(rooms=[chat(Scripted(0.02))])

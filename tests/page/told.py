"""The application with a model that says what it is told, when it is told: by `POST /tell`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from app.chat.providers.base import Asker, Finish, Message, ModelError  # type: ignore[import-not-found]
from app.chat.room import chat  # type: ignore[import-not-found]
from app.jobs.room import jobs  # type: ignore[import-not-found]
from app.main import create_app  # type: ignore[import-not-found]
from app.streams.events import Event, Reasoning, Tool  # type: ignore[import-not-found]
from fastapi import FastAPI, Request


class Told:
    service = model = "told"

    def __init__(self) -> None:
        self.words: asyncio.Queue[Any] = asyncio.Queue()
        self.answering = 0
        self.asked: list[list[str]] = []  # the messages of each time

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        self.answering += 1
        self.asked.append([message.content for message in messages])
        try:
            while True:
                word = await self.words.get()
                if isinstance(word, ModelError):
                    raise word
                yield word
                if isinstance(word, Finish):
                    return
        finally:
            self.answering -= 1


told = Told()
app: FastAPI = create_app(rooms=[chat(told), jobs()])


@app.post("/tell")
async def tell(request: Request) -> None:
    """A JSON text is said; `{"thought": text}` is thought; `{"tool": fields}` tells of a tool; `{"fail": retryable}`
    fails; `{"end": reason}` is the end."""
    match json.loads(await request.body()):
        case str(text):
            told.words.put_nowait(text)
        case {"thought": text}:
            told.words.put_nowait(Reasoning(text))
        case {"tool": fields}:
            told.words.put_nowait(Tool(**fields))
        case {"fail": retryable}:
            told.words.put_nowait(ModelError("on purpose", retryable=retryable))
        case {"end": reason}:
            told.words.put_nowait(Finish(reason))


@app.delete("/tell")
async def tell_no_more() -> int:
    """Forgets what has not been said yet, and what it was asked. Ends what is being answered, and gives how many."""
    while not told.words.empty():
        told.words.get_nowait()
    for _ in range(told.answering):
        told.words.put_nowait(Finish("end"))
    told.asked.clear()
    return told.answering


@app.get("/asked")
async def asked() -> list[list[str]]:
    return told.asked


@app.get("/answering")
async def answering() -> int:
    return told.answering

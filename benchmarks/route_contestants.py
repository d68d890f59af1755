"""The servers of `route.py`: `python route_contestants.py PROVIDER CONTESTANT URL` prints its port, then serves.

By the Python of a project, in its folder. Each contestant answers `POST /chat/stream` with the events of a model that
listens at the URL, and has `/usage`. `ours` is the project. The others are what people write by hand: the vendor's SDK
and a response class, each as its own documentation shows it, in a bare application without a middleware. A server ends
with its standard input.
"""

import json
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from contestants import serve, usage
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp

KEY = "sk-of-the-benchmark"
MODEL = "m"
MAX_TOKENS = 4096
Texts = Callable[[str], AsyncIterator[str]]  # of an answer, by the question


class Ask(BaseModel):
    question: str


def openai(url: str) -> Texts:
    from openai import AsyncOpenAI  # type: ignore[import-not-found]

    client = AsyncOpenAI(base_url=url, api_key=KEY)

    async def texts(question: str) -> AsyncIterator[str]:
        messages = [{"role": "user", "content": question}]
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return texts


def anthropic(url: str) -> Texts:
    from anthropic import AsyncAnthropic  # type: ignore[import-not-found]

    client = AsyncAnthropic(base_url=url, api_key=KEY)

    async def texts(question: str) -> AsyncIterator[str]:
        messages = [{"role": "user", "content": question}]
        stream = await client.messages.create(model=MODEL, messages=messages, max_tokens=MAX_TOKENS, stream=True)
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text

    return texts


PROVIDERS = {"openai": openai, "anthropic": anthropic}


def streaming_response(texts: Texts) -> FastAPI:
    from starlette.responses import StreamingResponse

    app = FastAPI()

    async def frames(question: str) -> AsyncIterator[str]:
        async for text in texts(question):
            yield f"event: token\ndata: {json.dumps({'text': text})}\n\n"
        yield 'event: done\ndata: {"reason": "end"}\n\n'

    @app.post("/chat/stream")
    async def answer(ask: Ask) -> StreamingResponse:
        return StreamingResponse(frames(ask.question), media_type="text/event-stream")

    return app


def sse_starlette(texts: Texts) -> FastAPI:
    from sse_starlette import EventSourceResponse

    app = FastAPI()

    async def events(question: str) -> AsyncIterator[dict[str, str]]:
        async for text in texts(question):
            yield {"event": "token", "data": json.dumps({"text": text})}
        yield {"event": "done", "data": '{"reason": "end"}'}

    @app.post("/chat/stream")
    async def answer(ask: Ask) -> EventSourceResponse:
        return EventSourceResponse(events(ask.question))

    return app


def fastapi_sse(texts: Texts) -> FastAPI:
    from fastapi.sse import EventSourceResponse, ServerSentEvent

    app = FastAPI()

    @app.post("/chat/stream", response_class=EventSourceResponse)
    async def answer(ask: Ask) -> AsyncIterable[ServerSentEvent]:
        async for text in texts(ask.question):
            yield ServerSentEvent(event="token", data={"text": text})
        yield ServerSentEvent(event="done", data={"reason": "end"})

    return app


BY_HAND: dict[str, Callable[[Texts], FastAPI]] = {
    contestant.__name__: contestant for contestant in (streaming_response, sse_starlette, fastapi_sse)
}


def ours(provider: str, url: str) -> Any:
    """The project as it is, by the settings that name the model."""
    name = provider.upper()
    os.environ |= {"MODEL_PROVIDER": provider, f"{name}_API_KEY": KEY, f"{name}_BASE_URL": url, "MODEL_NAME": MODEL}
    sys.path.insert(0, os.getcwd())
    from app.main import create_app  # type: ignore[import-not-found]

    return create_app()


def application(provider: str, contestant: str, url: str) -> ASGIApp:
    made = BY_HAND[contestant](PROVIDERS[provider](url)) if contestant in BY_HAND else ours(provider, url)
    made.get("/usage")(usage)
    return made


if __name__ == "__main__":
    serve(application(*sys.argv[1:]))

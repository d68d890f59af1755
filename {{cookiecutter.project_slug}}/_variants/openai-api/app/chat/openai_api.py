"""OpenAI's chat completions, for its SDKs and whatever else connects to an OpenAI-compatible server.

There is one model, that of this service's settings. It answers whichever model is asked for, under its own name.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from math import ceil
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.callers.caller import CallerDep
from app.chat.answer import Answer
from app.chat.answer_stream import AnswerStream
from app.chat.dependencies import AnswersDep, ProviderDep
from app.chat.generation import Generation
from app.chat.openai_completions import ChunkEncoder, completion
from app.chat.openai_errors import ErrorBody, answer_error
from app.chat.openai_requests import CompletionRequest
from app.chat.providers.echo import Echo
from app.chat.whole_answer import ClientLeft, whole_answer
from app.dependencies import OneStream, SettingsDep, ShutdownDep
from app.errors import NotFound
from app.shutdown import Shutdown
from app.streams.docs import stream_docs
from app.streams.events import Busy, Done, Reasoning, Status, StreamFault, Token, Tool
from app.streams.response import StreamRoute

router = APIRouter(prefix="/v1", tags=["chat"], responses={"4XX": {"model": ErrorBody}}, route_class=StreamRoute)
STATUSES = {
    "model_error": 502,
    "model_not_found": 502,  # not 404: no caller can mend what the settings say
    "model_unauthorized": 502,
    "model_busy": 429,
    "context_too_long": 400,
    "model_timeout": 504,
    "internal_error": 500,
}  # else 503: it was stopped, or the server ends
NOBODY_WAITS = 499  # as in nginx: it counts as no failure of ours


class Later(Response):
    """The response that `make` gives, made when the route has ended: FastAPI keeps the request's body until then."""

    def __init__(self, make: Callable[[Receive], Awaitable[Response]]) -> None:
        super().__init__()
        self.make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.make(receive)
        await response(scope, receive, send)


def _docs() -> dict[int | str, dict[str, Any]]:
    example = Generation(Echo(0), [], caller="", seconds=1, max_chars=1)
    example.id, example.reason = "9f1c0c0e", "end"
    example.usage = {"input_tokens": 1, "output_tokens": 4, "reasoning_tokens": 2}
    events = (
        Status("thinking", example.id),
        Reasoning("A greeting."),
        Tool("1", "greet", "called"),
        Token("Hello"),
        Token(" there"),
        Done(),
    )
    docs = stream_docs(
        "The completion; with `stream`, its chunks and `[DONE]`. The `finish_reason` is `stop`, `length` or "
        "`content_filter`. What the model thinks is `reasoning_content`, and has a line for each tool that it uses: a "
        "client has none to call. A stream that fails ends in a chunk with an `error`, as a 4XX has it, instead of "
        "`[DONE]`.",
        *events,
        encoder=ChunkEncoder(example, created=0),
    )
    docs[200]["content"]["application/json"] = {"example": completion(example, 0, events)}
    return docs


@router.post("/chat/completions", responses=_docs(), dependencies=[OneStream])
async def create_completion(
    asked: CompletionRequest, answers: AnswersDep, caller: CallerDep, shutdown: ShutdownDep
) -> Response:
    """Answers the last message: all at once, or with `stream` as it is made."""
    # OpenAI's clients can't come back to an answer, so it ends with its only reader.
    answer, created = await answers.start(asked.for_the_model(), caller.name, grace=0), int(time.time())
    if asked.stream:
        return AnswerStream(answer, ChunkEncoder(answer.generation, created, asked.include_usage))
    return Later(partial(_at_once, answer, created, shutdown))


async def _at_once(answer: Answer, created: int, shutdown: Shutdown, receive: Receive) -> Response:
    headers = {"X-Stream-ID": answer.id}
    try:
        events = await whole_answer(answer, receive, shutdown)
    except ClientLeft:
        return Response(status_code=NOBODY_WAITS)
    except StreamFault as fault:
        headers["X-Should-Retry"] = str(fault.error.retryable).lower()  # the SDKs obey this
        if isinstance(fault.error, Busy):
            headers["Retry-After"] = str(ceil(fault.error.retry_after))
        body = answer_error(fault.error.message, fault.error.code)
        return JSONResponse(body.model_dump(), STATUSES.get(fault.error.code, 503), headers)
    return JSONResponse(completion(answer.generation, created, events), headers=headers)


@router.get("/models")
async def list_models(provider: ProviderDep, settings: SettingsDep) -> dict[str, Any]:
    return {"object": "list", "data": [_model(provider.model, settings.app_name)]}


@router.get("/models/{name:path}")
async def read_model(name: str, provider: ProviderDep, settings: SettingsDep) -> dict[str, Any]:
    if name != provider.model:
        raise NotFound("no such model")
    return _model(provider.model, settings.app_name)


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}

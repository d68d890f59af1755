"""Chat completions over OpenAI's API, from OpenAI or from a server that speaks it too, such as vLLM or Ollama."""

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Self

import httpx2
from openai import (
    APIError,
    AsyncOpenAI,
    AsyncStream,
    BadRequestError,
    DefaultAsyncHttpxClient,
    Timeout,
    UnprocessableEntityError,
)

from app import telemetry
from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.chat.providers.bounded import bound
from app.chat.providers.conversation import conversation
from app.chat.providers.endings import reason_of
from app.chat.providers.failure import broken_off, failure
from app.chat.providers.parameters import parameters, without_refused
from app.chat.providers.settings import ProviderSettings
from app.chat.providers.shapes import at_once, count, fields, items, plain, reasoning_tokens, the_one, usage_of
from app.chat.providers.thoughts import Thoughts
from app.streams.events import Event

log = logging.getLogger(__name__)


class OpenAI:
    """The SDK tries again after rate limits, 5xx and lost connections, until the service has begun to answer."""

    service = "openai"

    def __init__(self, settings: ProviderSettings) -> None:
        self.model = settings.model_name
        self._key = settings.openai_api_key.get_secret_value()
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=str(settings.openai_base_url),
            max_retries=settings.model_max_retries,
            # MODEL_TIMEOUT_SECONDS limits the wait for each piece, whatever the provider.
            timeout=Timeout(None, connect=settings.model_connect_seconds),
            # MAX_ANSWERS limits the connections. The SDK has 1,000 by itself: one more would wait until it fails.
            http_client=DefaultAsyncHttpxClient(
                event_hooks={"response": [bound]}, limits=httpx2.Limits(max_keepalive_connections=100)
            ),
        )
        self._prompt = settings.system_prompt
        self._parameters = parameters(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        ending, usage, refused, odd, thoughts = None, dict[str, int](), False, None, Thoughts()
        try:
            async with await self._ask(messages) as answer:
                whole = at_once(answer.response)
                async for each in the_one(answer.response, self._key) if whole else answer:
                    chunk = fields(each, "a chunk")
                    if counted := usage_of(chunk):  # behind the last choice; some servers send it with each
                        given, made = count(counted, "prompt_tokens"), count(counted, "completion_tokens")
                        usage = {
                            "input_tokens": given,
                            # Those of thoughts are in the total only, at xAI and Gemini.
                            "output_tokens": max(made, count(counted, "total_tokens") - given),
                            **reasoning_tokens(counted.get("completion_tokens_details"), "reasoning_tokens"),
                        }
                    # An empty list is no error: Azure's first chunk has one, beside what its filter thinks.
                    if chunk.get("error") or (chunk.get("choices") is None and not counted):
                        odd = chunk
                    for one in items(chunk.get("choices"), "choices"):
                        choice = fields(one, "a choice")
                        ending = choice.get("finish_reason") or ending
                        # MiniMax has a `message`, the answer again, in its last chunk as well.
                        delta = fields(choice.get("message" if whole else "delta"), "delta")
                        refusal = plain(delta.get("refusal"), "refusal")
                        refused = refused or refusal != ""
                        for piece in thoughts.pieces(delta) or [refusal]:
                            yield piece
        except (APIError, httpx2.HTTPError) as error:
            if not ending:  # else it is whole, however its connection ends
                raise failure(error, self._key) from None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
            raise ModelError(f"the answer can't be read: {type(error).__name__}: {error}") from None
        if rest := thoughts.rest():
            yield rest
        if not ending:
            raise broken_off(odd, self._key)
        reason = reason_of(ending)
        yield Finish("refusal" if refused else reason, usage)

    async def _ask(self, messages: Sequence[Message]) -> AsyncStream[object]:
        """Asks again without a parameter that the service refuses, and remembers what it takes."""
        system, turns = conversation(self._prompt, messages)
        said = [Message(role="system", content=system)] if system else []
        body = {"model": self.model, "messages": [each.model_dump() for each in (*said, *turns)], "stream": True}
        sent, refused, trace = self._parameters, set[str](), telemetry.traceparent()
        while True:
            try:
                # Not `chat.completions.create`: the objects that it builds of each chunk take most of the CPU time that
                # a token needs, and a few of their fields are read. This is its own way to the service, with its
                # retries, errors and decoder; but a chunk is JSON as it came.
                answer = await self._client.post(
                    "/chat/completions",
                    cast_to=object,
                    body={**sent, **body},
                    options={"headers": {"traceparent": trace} if trace else {}},
                    stream=True,
                    stream_cls=AsyncStream[object],
                )
            except (BadRequestError, UnprocessableEntityError) as error:
                other = without_refused(sent, error.response.text, refused)
                if other is None:
                    raise
                sent = other
            else:
                if refused:
                    log.warning("the model's service refuses %s: that is not sent any more", ", ".join(sorted(refused)))
                    self._parameters = sent
                return answer

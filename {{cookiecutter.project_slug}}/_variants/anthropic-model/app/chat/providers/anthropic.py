"""Messages over Anthropic's API."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Self

import httpx2
from anthropic import APIError, AsyncAnthropic, AsyncStream, DefaultAsyncHttpxClient, Timeout

from app import telemetry
from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.chat.providers.bounded import bound
from app.chat.providers.conversation import conversation
from app.chat.providers.endings import reason_of
from app.chat.providers.failure import broken_off, failure
from app.chat.providers.settings import ProviderSettings
from app.chat.providers.shapes import at_once, count, fields, text, the_one, usage_of
from app.streams.events import Event


class Anthropic:
    """The SDK tries again after rate limits, 5xx and lost connections, until the service has begun to answer."""

    service = "anthropic"

    def __init__(self, settings: ProviderSettings) -> None:
        self.model = settings.model_name
        self._key = settings.anthropic_api_key.get_secret_value()
        self._client = AsyncAnthropic(
            api_key=self._key,
            base_url=str(settings.anthropic_base_url),
            max_retries=settings.model_max_retries,
            # MODEL_TIMEOUT_SECONDS limits the wait for each piece, whatever the provider.
            timeout=Timeout(None, connect=settings.model_connect_seconds),
            http_client=DefaultAsyncHttpxClient(event_hooks={"response": [bound]}),
        )
        self._prompt = settings.system_prompt
        self._parameters: dict[str, Any] = {"max_tokens": settings.model_max_tokens, **settings.extra}
        if settings.model_temperature is not None:  # newer models take none
            self._parameters["temperature"] = settings.model_temperature

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        ending, usage, odd = None, dict[str, int](), None
        trace, (system, turns) = telemetry.traceparent(), conversation(self._prompt, messages)
        body = {"model": self.model, "messages": [turn.model_dump() for turn in turns], "stream": True}
        try:
            # Not `messages.create`: the objects that it builds of each event take a quarter of the CPU time that a
            # token needs, and a few of their fields are read. This is its own way to the service, with its retries,
            # errors and decoder; but an event is JSON as it came.
            answer = await self._client.post(
                "/v1/messages",
                cast_to=object,
                body={**self._parameters, **({"system": system} if system else {}), **body},
                options={"headers": {"traceparent": trace} if trace else {}},
                stream=True,
                stream_cls=AsyncStream[object],
            )
            async with answer:
                whole = at_once(answer.response)
                async for each in the_one(answer.response, self._key) if whole else _events(answer.response):
                    event = fields(each, "an event")
                    match event.get("type"):
                        case "message_start":
                            if counted := usage_of(fields(event.get("message"), "message")):
                                usage["input_tokens"] = count(counted, "input_tokens")
                        case "content_block_delta":
                            delta = fields(event.get("delta"), "delta")
                            # All other kinds say that it thinks.
                            yield text(delta.get("text"), "text") if delta.get("type") == "text_delta" else ""
                        case "message_delta":
                            ending = fields(event.get("delta"), "delta").get("stop_reason") or ending
                            if counted := usage_of(event):
                                usage["output_tokens"] = count(counted, "output_tokens")
                        case "message":  # the whole
                            yield text(event.get("content"), "content")
                            ending = event.get("stop_reason")
                            if counted := usage_of(event):
                                usage = {name: count(counted, name) for name in ("input_tokens", "output_tokens")}
                        case _ if whole or event.get("error"):
                            odd = event
                            break  # before its connection is cut
        except (APIError, httpx2.HTTPError) as error:  # the latter where the connection is lost amid the answer
            if not ending:  # else it is whole, however its connection ends
                raise failure(error, self._key) from None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
            raise ModelError(f"the answer can't be read: {type(error).__name__}: {error}") from None
        if not ending:
            raise broken_off(odd, self._key)
        yield Finish(reason_of(ending), usage)


async def _events(response: httpx2.Response) -> AsyncIterator[object]:
    """All of them: the stream itself leaves out those without an `event:` line, and some proxies send no such lines."""
    async for event in AsyncStream.raw_events(response):
        if not event.data:
            continue
        try:
            yield event.json()
        except ValueError:
            if event.event != "error":
                raise
            yield {"error": event.data}

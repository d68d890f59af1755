"""Messages over Anthropic's API."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Self

import httpx2
from anthropic import APIError, AsyncAnthropic, AsyncStream, BadRequestError, DefaultAsyncHttpxClient, Timeout

from app import telemetry
from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.chat.providers.bounded import bound
from app.chat.providers.conversation import conversation
from app.chat.providers.endings import reason_of
from app.chat.providers.failure import broken_off, failure
from app.chat.providers.settings import ProviderSettings
from app.chat.providers.shapes import at_once, count, fields, parts, reasoning_tokens, the_one, thought, usage_of
from app.streams.events import Event

log = logging.getLogger(__name__)
ADAPTIVE = {"type": "adaptive", "display": "summarized"}  # by default, these models hide what they think


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
            # MAX_ANSWERS limits the connections. The SDK has 1,000 by itself: one more would wait until it fails.
            http_client=DefaultAsyncHttpxClient(
                event_hooks={"response": [bound]}, limits=httpx2.Limits(max_keepalive_connections=100)
            ),
        )
        self._prompt = settings.system_prompt
        self._parameters: dict[str, Any] = {"max_tokens": settings.model_max_tokens, **settings.extra}
        if settings.model_temperature is not None:  # newer models take none
            self._parameters["temperature"] = settings.model_temperature
        if budget := settings.model_thinking_tokens:
            self._parameters["thinking"] = {"type": "enabled", "budget_tokens": budget}
        self._has_budget = budget > 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        ending, usage, odd = None, dict[str, int](), None
        try:
            async with await self._ask(messages) as answer:
                whole = at_once(answer.response)
                async for each in the_one(answer.response, self._key) if whole else _events(answer.response):
                    event = fields(each, "an event")
                    match event.get("type"):
                        case "message_start":
                            _count(usage, fields(event.get("message"), "message"))
                        case "content_block_start":
                            # It may have the first of its text. A thought that is hidden comes in it as a whole.
                            for piece in parts([event.get("content_block")], "content_block") or [""]:
                                yield piece
                        case "content_block_delta":
                            delta = fields(event.get("delta"), "delta")
                            match delta.get("type"):
                                case "text_delta":
                                    for piece in parts(delta.get("text"), "text"):
                                        yield piece
                                case "thinking_delta":
                                    yield thought(delta.get("thinking"))
                                case _:
                                    yield ""  # a signature, or what a tool of the service is called with
                        case "message_delta":
                            ending = fields(event.get("delta"), "delta").get("stop_reason") or ending
                            _count(usage, event)
                        case "message":  # the whole
                            for piece in parts(event.get("content"), "content"):
                                yield piece
                            ending = event.get("stop_reason")
                            _count(usage, event)
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

    async def _ask(self, messages: Sequence[Message]) -> AsyncStream[object]:
        """Asks again where a model takes no budget of thoughts, and remembers that."""
        sent = self._parameters
        try:
            return await self._post(messages, sent)
        except BadRequestError as error:
            # Models since Claude Opus 4.7 name in their refusal what they take instead.
            if not self._has_budget or sent["thinking"] is ADAPTIVE or "adaptive" not in error.response.text:
                raise
        log.warning("the model takes no MODEL_THINKING_TOKENS: it decides itself how much it thinks")
        self._parameters = {**sent, "thinking": ADAPTIVE}
        return await self._post(messages, self._parameters)

    async def _post(self, messages: Sequence[Message], parameters: Mapping[str, Any]) -> AsyncStream[object]:
        trace, (system, turns) = telemetry.traceparent(), conversation(self._prompt, messages)
        body = {"model": self.model, "messages": [turn.model_dump() for turn in turns], "stream": True}
        # Not `messages.create`: the objects that it builds of each event take a quarter of the CPU time that a token
        # needs, and a few of their fields are read. This is its own way to the service, with its retries, errors and
        # decoder; but an event is JSON as it came.
        return await self._client.post(
            "/v1/messages",
            cast_to=object,
            body={**parameters, **({"system": system} if system else {}), **body},
            options={"headers": {"traceparent": trace} if trace else {}},
            stream=True,
            stream_cls=AsyncStream[object],
        )


def _count(usage: dict[str, int], value: Mapping[str, Any]) -> None:
    """At the end, some services say again what they have counted at the beginning, and some have a null there."""
    counted = usage_of(value)
    found = {name: count(counted, name) for name in ("input_tokens", "output_tokens") if name in counted}
    if "input_tokens" in found:  # without those that a cache has given or taken
        found["input_tokens"] += sum(count(counted, f"cache_{way}_input_tokens") for way in ("read", "creation"))
    found |= reasoning_tokens(counted.get("output_tokens_details"), "thinking_tokens")
    usage.update({name: max(tokens, usage.get(name, 0)) for name, tokens in found.items()})


async def _events(response: httpx2.Response) -> AsyncIterator[object]:
    """All of them: the stream itself leaves out those without an `event:` line, and some proxies send no such lines."""
    async for event in AsyncStream.raw_events(response):
        if event.data in ("", "[DONE]"):  # the latter is of another dialect. Gateways send it here too
            continue
        try:
            yield event.json()
        except ValueError:
            if event.event != "error":
                raise
            yield {"error": event.data}

"""Messages over Anthropic's API."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Self

import httpx2
from anthropic import APIError, AsyncAnthropic, Timeout, omit

from app.chat.providers.base import Finish, Message, ModelError
from app.chat.providers.failure import failure
from app.chat.providers.settings import ProviderSettings

REASONS: dict[str, Literal["length", "refusal"]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class Anthropic:
    """The SDK tries again after rate limits, 5xx and lost connections, until the service has begun to answer."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.model = settings.model_name
        self._key = settings.anthropic_api_key.get_secret_value()
        self._client = AsyncAnthropic(
            api_key=self._key,
            base_url=str(settings.anthropic_base_url),
            max_retries=settings.model_max_retries,
            # MODEL_TIMEOUT_SECONDS limits the wait for each piece, whatever the provider.
            timeout=Timeout(None, connect=settings.model_connect_seconds),
        )
        self._system = settings.system_prompt
        self._max_tokens = settings.model_max_tokens
        # Since version 1 the SDK has no such parameter, because newer models take none. Others still do.
        temperature = settings.model_temperature
        self._extra = None if temperature is None else {"temperature": temperature}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | Finish, None]:
        reason, usage = None, {}
        # Any: their type is a union, with one member for each role.
        turns: list[Any] = [message.model_dump() for message in messages if message.role != "system"]
        system = [self._system, *(message.content for message in messages if message.role == "system")]
        try:
            answer = await self._client.messages.create(
                model=self.model,
                messages=turns,
                system="\n\n".join(filter(None, system)) or omit,
                max_tokens=self._max_tokens,
                extra_body=self._extra,
                stream=True,
            )
            async with answer as events:
                async for event in events:
                    match event.type:
                        case "message_start":
                            usage = {"input_tokens": event.message.usage.input_tokens}
                        case "content_block_delta":
                            yield event.delta.text if event.delta.type == "text_delta" else ""  # it thinks
                        case "message_delta":
                            reason = event.delta.stop_reason or reason
                            usage["output_tokens"] = event.usage.output_tokens
        except (APIError, httpx2.HTTPError) as error:  # httpx2's if the connection is lost amid the answer
            raise failure(error, self._key) from None
        if reason is None:
            raise ModelError("the answer broke off: it ended without a stop_reason")
        yield Finish(REASONS.get(reason, "end"), usage)

"""Chat completions over OpenAI's API, from OpenAI or from a server that speaks it too, such as vLLM or Ollama."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Self

from openai import APIError, AsyncOpenAI, Timeout

from app.chat.providers.base import Finish, Message, ModelError
from app.chat.providers.failure import failure
from app.chat.providers.settings import ProviderSettings

REASONS: dict[str, Literal["length", "refusal"]] = {"length": "length", "content_filter": "refusal"}


class OpenAI:
    """The SDK tries again after rate limits, 5xx and lost connections, until the service has begun to answer."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.model = settings.model_name
        self._key = settings.openai_api_key.get_secret_value()
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=str(settings.openai_base_url),
            max_retries=settings.model_max_retries,
            # MODEL_TIMEOUT_SECONDS limits the wait for each piece, whatever the provider.
            timeout=Timeout(None, connect=settings.model_connect_seconds),
        )
        self._system = [Message(role="system", content=settings.system_prompt)] if settings.system_prompt else []
        # OpenAI's newer models refuse `max_tokens`, at Azure too; Ollama ignores its successor (ollama issue 7125).
        at_openai = (settings.openai_base_url.host or "").endswith(("openai.com", "azure.com"))
        limit = "max_completion_tokens" if at_openai else "max_tokens"
        self._options: dict[str, Any] = {limit: settings.model_max_tokens}
        if settings.model_temperature is not None:
            self._options["temperature"] = settings.model_temperature

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | Finish, None]:
        reason, usage, refused = None, {}, False
        # Any: their type is a union, with one member for each role.
        turns: list[Any] = [message.model_dump() for message in [*self._system, *messages]]
        try:
            answer = await self._client.chat.completions.create(
                model=self.model,
                messages=turns,
                stream=True,
                stream_options={"include_usage": True},
                **self._options,
            )
            async with answer as chunks:
                async for chunk in chunks:
                    if chunk.usage:  # it comes after the last choice
                        usage = {
                            "input_tokens": chunk.usage.prompt_tokens or 0,
                            "output_tokens": chunk.usage.completion_tokens or 0,
                        }
                    for choice in chunk.choices or ():  # some servers leave an empty list out, or send a null
                        reason = choice.finish_reason or reason
                        if delta := choice.delta:
                            refused = refused or bool(delta.refusal)
                            yield delta.content or delta.refusal or ""  # reasoning is in other fields
        except APIError as error:
            raise failure(error, self._key) from None
        if reason is None:
            raise ModelError("the answer broke off: it ended without a finish_reason")
        yield Finish("refusal" if refused else REASONS.get(reason, "end"), usage)

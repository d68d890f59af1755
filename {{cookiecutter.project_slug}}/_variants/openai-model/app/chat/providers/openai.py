"""Chat completions over OpenAI's API, from OpenAI or from a server that speaks it too, such as vLLM or Ollama."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Self

from openai import APIError, AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient, Timeout

from app.chat.providers.base import Finish, Message, ModelError
from app.chat.providers.bounded import bound
from app.chat.providers.failure import failure
from app.chat.providers.settings import ProviderSettings
from app.chat.providers.shapes import count, fields, items, text, usage_of

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
            http_client=DefaultAsyncHttpxClient(event_hooks={"response": [bound]}),
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
        reason, usage, refused = "", {}, False
        body = {
            "model": self.model,
            "messages": [message.model_dump() for message in [*self._system, *messages]],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._options,
        }
        try:
            # Not `chat.completions.create`: the objects that it builds of each chunk take most of the CPU time that a
            # token needs, and a few of their fields are read. This is its own way to the service, with its retries,
            # errors and decoder; but a chunk is JSON as it came.
            answer = await self._client.post(
                "/chat/completions", cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object]
            )
            async with answer as chunks:
                async for each in chunks:
                    chunk = fields(each, "a chunk")
                    if counted := usage_of(chunk):  # behind the last choice; some servers send it with each
                        usage = {
                            "input_tokens": count(counted, "prompt_tokens"),
                            "output_tokens": count(counted, "completion_tokens"),
                        }
                    for one in items(chunk.get("choices"), "choices"):
                        choice = fields(one, "a choice")
                        # It has ended, whatever else this may be.
                        reason = str(choice.get("finish_reason") or reason)
                        delta = fields(choice.get("delta"), "delta")
                        refusal = text(delta.get("refusal"), "refusal")
                        refused = refused or refusal != ""
                        # Reasoning comes in other fields, or, from Mistral, as parts of a list beside those of text.
                        yield text(delta.get("content"), "content") or refusal
        except APIError as error:
            raise failure(error, self._key) from None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
            raise ModelError(f"the answer can't be read: {type(error).__name__}: {error}") from None
        if not reason:
            raise ModelError("the answer broke off: it ended without a finish_reason")
        yield Finish("refusal" if refused else REASONS.get(reason, "end"), usage)

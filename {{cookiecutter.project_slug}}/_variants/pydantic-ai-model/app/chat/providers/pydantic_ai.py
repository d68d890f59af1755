"""The agent of app/chat/agent.py, on any model that Pydantic AI knows."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

import pydantic_ai
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelHTTPError,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RunUsage, UsageLimits

from app import telemetry
from app.chat.agent import INSTRUCTIONS, agent, deps_of
from app.chat.keys import Keys
from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.chat.providers.conversation import conversation
from app.chat.providers.failure import broken_off, failure, shortened
from app.chat.providers.known_models import key_of
from app.chat.providers.pieces import Pieces
from app.chat.providers.settings import ProviderSettings
from app.chat.providers.tools import Tools
from app.streams.events import Event

LONGEST_SECONDS = 3600  # of silence: before that, MODEL_TIMEOUT_SECONDS ends the answer
REASONS: Mapping[str, Literal["end", "length", "refusal"]] = {
    "stop": "end",
    "tool_call": "end",
    "length": "length",
    "content_filter": "refusal",
}
pydantic_ai.BANNER_ENABLED = False


class PydanticAI:
    """Its SDKs try again after rate limits, 5xx and lost connections, until the service has begun to answer."""

    def __init__(self, settings: ProviderSettings, model: Model, shared: Mapping[type, Any]) -> None:
        """`shared` is what other rooms have opened, for the agent's tools."""
        self.service = model.system
        self.model = model.model_name
        self._model = model
        self._key = key_of(model)
        self._shared = shared
        self._prompt = "\n\n".join(filter(None, [INSTRUCTIONS, settings.system_prompt]))
        self._rounds = settings.model_max_rounds
        self._limits = UsageLimits(request_limit=self._rounds, tool_calls_limit=settings.model_max_tool_calls)
        self._tool_seconds = settings.tool_timeout_seconds
        self._parameters = ModelSettings(
            max_tokens=settings.model_max_tokens, max_retries=settings.model_max_retries, timeout=LONGEST_SECONDS
        )
        if settings.model_temperature is not None:
            self._parameters["temperature"] = settings.model_temperature
        if settings.extra:
            self._parameters["extra_body"] = settings.extra

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        prompt, turns = conversation(self._prompt, messages)
        keys, pieces, parameters = Keys(asker.key), Pieces(), self._parameters.copy()
        if trace := telemetry.traceparent():
            parameters["extra_headers"] = {"traceparent": trace}
        run = agent.run_stream_events(
            message_history=[_as_history(turn) for turn in turns],
            instructions=prompt or None,
            deps=deps_of(self._shared, asker.caller, keys),
            model=self._model,
            model_settings=parameters,
            usage_limits=self._limits,
            retries={"tools": self._rounds},  # who calls a tool wrongly again and again comes to the limit of rounds
            capabilities=[Tools(keys, self._tool_seconds)],
        )
        try:
            async with run as events:
                async for event in events:
                    yield pieces.of(event)
            ending = self._ending_of(events.result.response) if events.result else ""
        except (UsageLimitExceeded, OutputTokenLimitExceeded):
            ending = "length"
        except ContentFilterError:
            ending = "content_filter"
        except ModelAPIError as error:
            raise failure(_beneath(error), self._key) from None
        except UnexpectedModelBehavior as error:
            raise ModelError(f"{type(error).__name__}: {shortened(f'{error}', self._key)}") from None
        if ending not in REASONS:
            raise broken_off(None, self._key)
        yield Finish(REASONS[ending], _counts(events.usage))

    def _ending_of(self, response: ModelResponse) -> str:
        """Empty if the model has not said how it ended. Pydantic AI takes a stream of chat completions that just ends
        for a whole answer, since some servers never say (its issue 6610)."""
        said = response.provider_details or {}
        assumed = response.finish_reason == "stop" and "finish_reason" not in said
        if assumed and isinstance(self._model, OpenAIChatModel):
            return ""
        return response.finish_reason or ""


def _beneath(error: ModelAPIError) -> Exception:
    """What an SDK has raised says more, such as the address. But not every SDK says the status by the same name."""
    cause = error.__cause__
    says_it = hasattr(cause, "status_code") or not isinstance(error, ModelHTTPError)
    return cause if isinstance(cause, Exception) and says_it else error


def _as_history(turn: Message) -> ModelMessage:
    if turn.role == "user":
        return ModelRequest(parts=[UserPromptPart(turn.content)])
    return ModelResponse(parts=[TextPart(turn.content)])


def _counts(usage: RunUsage) -> dict[str, int]:
    """Of all rounds, if the service counts."""
    if not usage.total_tokens:
        return {}
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    if usage.output_reasoning_tokens:
        counts["reasoning_tokens"] = usage.output_reasoning_tokens
    return counts

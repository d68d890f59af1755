"""How a route asks the model: `generation = generate(messages)`. After the response, what it took is recorded."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypedDict, cast

from fastapi import BackgroundTasks, Depends, Request

from app.chat.generation import Generation
from app.chat.providers.base import Message, Provider
from app.chat.usage import record_usage
from app.dependencies import BackgroundDep, SettingsDep


class State(TypedDict):
    """What the room opens."""

    provider: Provider


def _provider(request: Request) -> Provider:
    return cast(State, request.state)["provider"]


ProviderDep = Annotated[Provider, Depends(_provider)]
Generate = Callable[[Sequence[Message]], Generation]


def _generate(
    provider: ProviderDep, settings: SettingsDep, tasks: BackgroundTasks, background: BackgroundDep
) -> Generate:
    def generate(messages: Sequence[Message]) -> Generation:
        seconds, max_chars = settings.model_timeout_seconds, settings.max_answer_chars
        # If an answer failed before its first word, a client's history has it as blank text. Models refuse that.
        *before, last = messages
        spoken = [*(message for message in before if message.content.strip()), last]
        generation = Generation(provider, spoken, seconds=seconds, max_chars=max_chars)
        tasks.add_task(background.run, record_usage, generation)
        return generation

    return generate


GenerateDep = Annotated[Generate, Depends(_generate)]

"""The agent on a model that a test scripts, and with tools of the test's own."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import StreamedResponse
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    DeltaToolCall,
    DeltaToolCalls,
    FunctionModel,
)
from pydantic_ai.models.wrapper import WrapperModel

from app.chat.agent import agent
from app.chat.providers.base import Asker, Finish, Message
from app.chat.providers.pydantic_ai import PydanticAI
from app.chat.providers.settings import ProviderSettings
from app.streams.events import Event

ASKER = Asker("me", "key of the question")
QUESTION = [Message(role="user", content="Hi")]
ANYTHING: Mapping[type, Any] = defaultdict(object)  # for tools that use nothing of it


@dataclass
class Call:
    """Of a tool, by the model."""

    tool: str
    arguments: Any
    id: str = "c-1"


@dataclass
class Thought:
    text: str


class Script:
    """A model that does in each round what is written: says texts, thinks thoughts, makes calls, waits for events,
    raises."""

    def __init__(self, *rounds: Sequence[object]) -> None:
        self.rounds = rounds
        self.asked: list[list[ModelMessage]] = []
        self.told: list[AgentInfo] = []

    async def stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaToolCalls | DeltaThinkingCalls]:
        self.asked.append(messages)
        self.told.append(info)
        for number, step in enumerate(self.rounds[len(self.asked) - 1]):
            match step:
                case asyncio.Event():
                    await step.wait()
                case Exception():
                    raise step
                case Call():
                    arguments = step.arguments if isinstance(step.arguments, str) else json.dumps(step.arguments)
                    yield {number: DeltaToolCall(step.tool, arguments, tool_call_id=step.id)}
                case Thought():
                    yield {number: DeltaThinkingPart(content=step.text)}
                case _:
                    yield str(step)


class Ending(WrapperModel):
    """Says how it has ended, as a service does, and as Pydantic AI's own models for tests do not."""

    @asynccontextmanager
    async def request_stream(self, *args: Any, **named: Any) -> AsyncIterator[StreamedResponse]:
        async with self.wrapped.request_stream(*args, **named) as response:
            response.finish_reason = "stop"
            yield response


def provider_of(script: Script, shared: Mapping[type, Any] = ANYTHING, **settings: Any) -> PydanticAI:
    told = ProviderSettings(_env_file=None, model_provider="echo", **settings)  # so that it asks for no key
    return PydanticAI(told, Ending(FunctionModel(stream_function=script.stream)), shared)


@contextmanager
def scripted(
    *rounds: Sequence[object], tools: Sequence[Callable[..., Any]] = (), **settings: Any
) -> Iterator[tuple[PydanticAI, Script]]:
    """The agent has these tools, in place of its own."""
    script = Script(*rounds)
    with agent.override(tools=tools):
        yield provider_of(script, **settings), script


async def pieces_of(provider: PydanticAI, messages: Sequence[Message] = QUESTION) -> list[str | Event | Finish]:
    """Without its empty pieces."""
    return [piece async for piece in provider.stream(messages, ASKER) if piece]

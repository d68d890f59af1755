"""How the agent's tools run: each within its time, with a key of its own, and none ends the answer when it fails."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from pydantic_ai import RunContext, ToolDefinition, ToolFailed
from pydantic_ai.capabilities import AbstractCapability, ValidatedToolArgs, WrapToolExecuteHandler
from pydantic_ai.messages import (
    CapabilityEvent,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
)
from pydantic_ai.models import ModelRequestContext

from app.chat.keys import Keys
from app.chat.well_formed import well_formed
from app.contain import contained
from app.errors import AppError

log = logging.getLogger(__name__)
SIGN_SECONDS = 0.5


@dataclass
class AtWork(CapabilityEvent, namespace="tools"):
    """A sign of life, while a tool runs."""


class Tools(AbstractCapability[Any]):
    """Runs the tools of one answer."""

    def __init__(self, keys: Keys, seconds: float) -> None:
        """A call may take so many `seconds`."""
        self._keys = keys
        self._seconds = seconds

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Mends what the model has said: with what its tools give, it goes back to it."""
        for part in response.parts:
            match part:
                case TextPart(content=text) | ThinkingPart(content=text):
                    part.content = well_formed(text)
                case ToolCallPart(args=str(text)):
                    part.args = well_formed(text)
        return response

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,
    ) -> Any:
        # Not the agent's own `tool_timeout`: it is an anyio scope, which would cancel each await of a tool's cleanup.
        try:
            with self._keys.of_call(call.tool_name, call.args_as_dict()):
                async with _limit(self._seconds), self._at_work(ctx):
                    return _told(call, await contained(handler(args)))
        except TimeoutError:  # a tool's own goes the other way, below
            log.warning("a tool was too slow", extra={"tool": call.tool_name, "limit": self._seconds})
            raise ToolFailed(f"It took longer than {self._seconds:g} s.") from None
        except RuntimeError as error:  # it was no Exception, as SystemExit, or a CancelledError of the tool's own
            raise _failed(call, error) from None

    async def on_tool_execute_error(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        error: Exception,
    ) -> Any:
        if isinstance(error, AppError):  # its text is for callers
            raise ToolFailed(f"{error}") from None
        raise _failed(call, error) from None

    @asynccontextmanager
    async def _at_work(self, ctx: RunContext[Any]) -> AsyncIterator[None]:
        telling = asyncio.create_task(self._tell(ctx))
        try:
            yield
        finally:
            telling.cancel()

    async def _tell(self, ctx: RunContext[Any]) -> None:
        """Not for ever, as the cleanup of a tool that was too slow may hang."""
        for _ in range(ceil(self._seconds / SIGN_SECONDS)):
            await asyncio.sleep(SIGN_SECONDS)
            await ctx.emit(AtWork())


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, unless the task is cancelled before: the answer has been stopped, and a second cancellation
    would cut the tool's cleanup."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:

        def end() -> None:
            if task and not task.cancelling():
                limit.reschedule(loop.time())

        late = loop.call_later(seconds, end)
        try:
            yield
        finally:
            late.cancel()


def _told(call: ToolCallPart, given: Any) -> Any:
    """What the tool has given. Raises ToolFailed if a model can't be told that: else the answer would fail with it."""
    content = given.return_value if isinstance(given, ToolReturn) else given
    try:
        ToolReturnPart(call.tool_name, content, call.tool_call_id).model_response_str().encode()
    except ValueError as error:  # what holds itself, what is no JSON, half of a UTF-16 pair
        raise _failed(call, error, "a tool has given what is no JSON") from None
    return given


def _failed(call: ToolCallPart, error: Exception, words: str = "a tool failed") -> ToolFailed:
    log.error(words, extra={"tool": call.tool_name}, exc_info=error)
    return ToolFailed("The tool failed.")

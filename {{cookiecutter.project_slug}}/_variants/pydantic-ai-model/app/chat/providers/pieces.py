"""What happens in a run of the agent, as pieces of an answer."""

from collections import Counter

from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_core import to_jsonable_python

from app.streams.events import Event, Reasoning, Tool


class Pieces:
    """Those of one run."""

    def __init__(self) -> None:
        self._said = False
        self._gap = False  # a tool was used since
        self._calls = Counter[str]()  # how often each id has come

    def of(self, event: object) -> str | Event:
        """An empty one for what shows nothing to a reader: it says that the model or a tool is at work."""
        match event:
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                return self._text(text)
            case PartStartEvent(part=ThinkingPart(content=str(thought))) if thought:
                return Reasoning(thought)
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(thought))) if thought:
                return Reasoning(thought)
            case FunctionToolCallEvent(part=call):
                self._calls[call.tool_call_id] += 1
                return Tool(self._id(call), call.tool_name, "called", input=call.args_as_dict())
            case FunctionToolResultEvent(part=result):
                self._gap = self._said
                return self._ended(result)
            case _:
                return ""

    def _text(self, text: str) -> str:
        """What is said before a tool is used, and behind it, are paragraphs."""
        if text and self._gap:
            text = f"\n\n{text}"
            self._gap = False
        self._said = self._said or text != ""
        return text

    def _id(self, call: ToolCallPart | ToolReturnPart) -> str:
        """Some services count the calls of each round anew."""
        number = self._calls[call.tool_call_id]
        return call.tool_call_id if number < 2 else f"{call.tool_call_id}-{number}"

    def _ended(self, result: ToolReturnPart) -> Tool:
        called = self._id(result), result.tool_name
        if result.outcome == "success":
            given = to_jsonable_python(result.content, serialize_unknown=True, bytes_mode="base64")
            return Tool(*called, "done", output=given)
        # It is a list of what is wrong with the arguments, if these are.
        wrong = "The model called it with arguments that do not fit."
        return Tool(*called, "failed", output=result.content if isinstance(result.content, str) else wrong)

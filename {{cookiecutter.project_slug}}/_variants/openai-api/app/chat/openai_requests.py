"""What clients send to `POST /v1/chat/completions`, as far as it matters here.

A field is refused by name if it asks for a shape of the answer that is not possible here. All other fields are ignored.
This service's settings choose the model, the limits and the sampling (`model`, `max_completion_tokens`, `temperature`,
`stop`, …). `tools` are ignored too, because a model may always answer without them: Open WebUI offers a dozen in every
request.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from app.chat.providers.base import Items, Message, Text


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text

    @model_validator(mode="before")
    @classmethod
    def _may_be_about_a_tool(cls, message: Any) -> Any:
        """Another model may have begun the chat. Its message that called a tool has no content."""
        if isinstance(message, dict) and message.get("role") in ("assistant", "tool", "function"):
            return {**message, "content": message.get("content") or ""}
        return message

    @field_validator("content", mode="before")
    @classmethod
    def _join(cls, content: Any) -> Any:
        """Takes a list of parts too. Each must be text."""
        if not isinstance(content, list):
            return content
        for place, part in enumerate(content):
            if not _is_text(part):
                raise ValueError(f"part [{place}] is not of type text, and only text is taken here")
        return "".join(part["text"] for part in content)

    def for_the_model(self) -> Message | None:
        """None for the result of a tool, because the model here has called none."""
        if self.role in ("tool", "function"):
            return None
        return Message(role="system" if self.role == "developer" else self.role, content=self.content)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _with_text_only(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    return {**message, "content": [*filter(_is_text, content)]} if isinstance(content, list) else message


class StreamOptions(BaseModel):
    include_usage: bool = False


class CompletionRequest(BaseModel):
    messages: Items[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: dict[str, Any] | None = None

    @field_validator("n")
    @classmethod
    def _is_one(cls, n: int | None) -> int | None:
        if n not in (None, 1):
            raise ValueError("there is one answer to a request: leave it out")
        return n

    @field_validator("tool_choice", "function_call")
    @classmethod
    def _is_free(cls, choice: Any) -> Any:
        if choice not in (None, "none", "auto"):
            raise ValueError("the model calls no tools here: leave it out")
        return choice

    @field_validator("response_format")
    @classmethod
    def _is_text(cls, response_format: dict[str, Any] | None) -> dict[str, Any] | None:
        if response_format and response_format.get("type") != "text":
            raise ValueError("answers are text: leave it out")
        return response_format

    @field_validator("messages", mode="before")
    @classmethod
    def _leave_out_of_earlier_ones(cls, messages: Any) -> Any:
        """A picture in the last message is refused, for it is part of the question. In an earlier one it is left out,
        as refusals and thoughts are: a client sends these for ever, and its user can't edit them."""
        return (
            [*map(_with_text_only, messages[:-1]), messages[-1]]
            if isinstance(messages, list) and messages
            else messages
        )

    @field_validator("messages")
    @classmethod
    def _ends_in_text(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Blanks are no text: models refuse them."""
        if not messages[-1].content.strip() or not messages[-1].for_the_model():
            raise ValueError("the last message has no text for the model")
        if not any(message.role in ("user", "assistant") and message.content.strip() for message in messages):
            raise ValueError("nobody asks anything: one must be a user's")
        return messages

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def for_the_model(self) -> list[Message]:
        return [message for each in self.messages if (message := each.for_the_model())]

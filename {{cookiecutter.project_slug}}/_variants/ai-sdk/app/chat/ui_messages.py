"""What `useChat` sends to `POST /api/chat`, as far as it matters here. All else is ignored."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator

from app.chat.providers.base import Message, Text


class Part(BaseModel):
    """Only text is for the model. Reasoning, sources, steps and data are for the reader, and left out."""

    type: str
    text: Text = ""

    @field_validator("type")
    @classmethod
    def _is_no_file(cls, value: str) -> str:
        if value == "file":
            raise ValueError("files are not taken here, only text")
        return value


class UIMessage(BaseModel):
    """No message has the role `system`: the settings instruct the model, and a reader can't."""

    role: Literal["user", "assistant"]
    parts: list[Part]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.type == "text")


class UIChat(BaseModel):
    """All messages of the chat, the new one last."""

    messages: list[UIMessage] = Field(min_length=1)

    @field_validator("messages")
    @classmethod
    def _ends_in_text(cls, messages: list[UIMessage]) -> list[UIMessage]:
        if not messages[-1].text:
            raise ValueError("the last message has no text")
        return messages

    def for_the_model(self) -> list[Message]:
        return [Message(role=each.role, content=each.text) for each in self.messages]

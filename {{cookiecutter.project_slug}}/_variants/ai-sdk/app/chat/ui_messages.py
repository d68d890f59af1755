"""What `useChat` sends to `POST /api/chat`, as far as it matters here. All else is ignored."""

from itertools import groupby
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from app.chat.providers.base import Items, Message, Text
from app.digest import digest


class Part(BaseModel):
    """Only text is for the model. Reasoning, tools, sources, steps and data are for the reader, and left out."""

    type: str
    text: Text = ""


class UIMessage(BaseModel):
    """No message has the role `system`: the settings instruct the model, and a reader can't."""

    id: str = ""
    role: Literal["user", "assistant"]
    parts: Items[Part]

    @property
    def text(self) -> str:
        """Parts side by side are one text. With something between them, such as a tool, each is a paragraph."""
        runs = groupby(self.parts, lambda part: part.type == "text")
        texts = ("".join(part.text for part in run) for is_text, run in runs if is_text)
        return "\n\n".join(text for text in texts if text)

    def all_of(self, part_type: str) -> str:
        """As it came over the wire."""
        return "".join(part.text for part in self.parts if part.type == part_type)

    @property
    def has_a_file(self) -> bool:
        return any(part.type == "file" for part in self.parts)


class UIChat(BaseModel):
    """All messages of the chat, the new one last, or the beginning of its answer."""

    id: Text = Field("", max_length=255)
    messages: Items[UIMessage] = Field(min_length=1)

    @field_validator("messages")
    @classmethod
    def _ends_in_text(cls, messages: list[UIMessage]) -> list[UIMessage]:
        if not _without_blank_answer(messages)[-1].text:
            raise ValueError("the last message has no text")
        if messages[-1].role == "user" and messages[-1].has_a_file:
            raise ValueError("files are not taken here, only text")
        return messages

    @property
    def leaves_out(self) -> list[str]:
        """Which kinds of parts the model does not get. A chat sends a file that was refused once again with each later
        message: it can't be refused for ever."""
        return ["file"] if any(message.has_a_file for message in self.messages) else []

    @property
    def fingerprint(self) -> str:
        """Of the question: the id of the user's last message, and its text, for an edit keeps the id."""
        asked = [[each.id, each.text] for each in self.messages if each.role == "user"][-1:]
        return digest(*asked)

    def ends_in(self, answer_id: str) -> bool:
        """Whether the page shows a part of this answer, and asks for the rest."""
        last = self.messages[-1]
        return last.role == "assistant" and last.id == answer_id

    def for_the_model(self) -> list[Message]:
        return [Message(role=each.role, content=each.text) for each in _without_blank_answer(self.messages)]


def _without_blank_answer(messages: list[UIMessage]) -> list[UIMessage]:
    """A page that has lost its connection before the first word has a message for it."""
    *before, last = messages
    return before if before and last.role == "assistant" and not last.text else messages

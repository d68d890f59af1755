"""Tells what a model thinks from what it answers. Servers of OpenAI's API have several fields for it, and some send it
as text between tags.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.chat.providers.shapes import parts, thought
from app.streams.events import Reasoning

FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
OPENING = re.compile(r"\s{,100}<(think|thought)>")
MAY_OPEN = re.compile(r"\s{,100}(<\w{,7})?")
MAY_CLOSE = re.compile(r"<(/\w{,7})?\Z")


class Thoughts:
    """Of one answer. A tag is one at its very beginning only: further on, it is a word of the answer."""

    def __init__(self) -> None:
        self._fields: Sequence[str] = FIELDS
        self._at_start = True
        self._closing = ""  # the tag that will end the thought
        self._held = ""  # perhaps the half of a tag

    def pieces(self, delta: Mapping[str, Any]) -> Sequence[str | Reasoning]:
        """None of them is empty. Raises ModelError for a text that can't be read."""
        found = self._in_fields(delta)
        for part in parts(delta.get("content"), "content"):
            if isinstance(part, str) and (self._at_start or self._closing or self._held):
                found.extend(filter(None, self._told_apart(part)))
            elif part:
                found.append(part)
        return found

    def rest(self) -> str | Reasoning:
        """What is held back still, when the answer has ended."""
        return thought(self._held) if self._closing else self._held

    def _in_fields(self, delta: Mapping[str, Any]) -> list[str | Reasoning]:
        """Some servers send a thought in more than one field: it counts once."""
        for name in self._fields:
            if (value := delta.get(name)) and (found := thought(value)):
                self._fields, self._at_start = [name], False
                return [found]
        return []

    def _told_apart(self, text: str) -> Iterator[str | Reasoning]:
        text, self._held = self._held + text, ""
        if self._at_start:
            if opening := OPENING.match(text):
                self._closing, text = f"</{opening[1]}>", text[opening.end() :]
            elif MAY_OPEN.fullmatch(text):
                self._held = text
                return
            self._at_start = False
        if self._closing:
            thoughts, closing, text = text.partition(self._closing)
            if closing:
                self._closing = ""
            elif half := MAY_CLOSE.search(thoughts):
                thoughts, self._held = thoughts[: half.start()], half[0]
            yield thought(thoughts)
        yield text

from collections.abc import Sequence

from app.chat.providers.base import Message


def instructions(prompt: str, messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """The settings' prompt and what a client instructs, as one text; and the other messages."""
    own, turns = (messages[0].content, messages[1:]) if messages[0].role == "system" else ("", messages)
    return "\n\n".join(filter(None, (prompt, own))), turns

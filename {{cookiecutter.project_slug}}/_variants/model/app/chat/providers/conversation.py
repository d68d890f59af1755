"""A conversation in the only shape that every model takes. The chat templates of many open models refuse any other."""

from collections.abc import Sequence
from itertools import groupby

from app.chat.providers.base import Message

BEGINS = "(The chat begins.)"


def conversation(prompt: str, messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """Gives all that instructs the model as one text, which begins with the settings' prompt; and the other messages,
    whose roles alternate and begin with the user's.

    A client may instruct amid the chat. It has two turns of one role where an answer failed, or was a tool's.
    """
    system = "\n\n".join(filter(None, [prompt, *(each.content for each in messages if each.role == "system")]))
    others = groupby((each for each in messages if each.role != "system"), lambda each: each.role)
    # Each run of one role is joined at once: message by message, 10,000 of them held up the server for seconds.
    turns = [Message(role=role, content="\n\n".join(each.content for each in run)) for role, run in others]
    if turns and turns[0].role == "assistant":  # a page's greeting: it says what the user replies to
        turns.insert(0, Message(role="user", content=BEGINS))
    return system, turns

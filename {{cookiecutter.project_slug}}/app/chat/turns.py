from collections.abc import Sequence
from itertools import groupby

from app.chat.providers.base import Message


def in_turns(messages: Sequence[Message]) -> list[Message]:
    """What the messages say, in the only shape that every model takes: one system message, and it is the first; then
    roles that alternate. The chat templates of many open models refuse any other.

    Blank messages go, but for the last: a client has one in the place of an answer that failed before its first word.
    """
    *before, last = messages
    spoken = [*(message for message in before if message.content.strip()), last]
    spoken.sort(key=lambda each: each.role != "system")  # a stable sort
    # Each run of one role is joined at once: message by message, 10,000 of them held up the server for seconds.
    runs = [(role, [message.content for message in same]) for role, same in groupby(spoken, lambda each: each.role)]
    return [Message(role=role, content="\n\n".join(contents)) for role, contents in runs]

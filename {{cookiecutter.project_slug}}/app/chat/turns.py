from collections.abc import Sequence

from app.chat.providers.base import Message


def in_turns(messages: Sequence[Message]) -> list[Message]:
    """What the messages say, in the only shape that every model takes: one system message, and it is the first; then
    roles that alternate. The chat templates of many open models refuse any other.

    Blank messages go, but for the last: a client has one in the place of an answer that failed before its first word.
    """
    *before, last = messages
    spoken = [*(message for message in before if message.content.strip()), last]
    turns = list[Message]()
    for message in sorted(spoken, key=lambda each: each.role != "system"):  # a stable sort
        if turns and turns[-1].role == message.role:
            *turns, same = turns
            message = Message(role=same.role, content=f"{same.content}\n\n{message.content}")
        turns.append(message)
    return turns

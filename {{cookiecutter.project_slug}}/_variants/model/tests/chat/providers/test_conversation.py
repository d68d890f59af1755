from time import process_time
from typing import Literal

import pytest

from app.chat.providers.base import Message
from app.chat.providers.conversation import BEGINS, conversation

Role = Literal["system", "user", "assistant"]
S: Role = "system"
U: Role = "user"
A: Role = "assistant"


@pytest.mark.parametrize(
    ("given", "system", "turns"),
    [
        ([(U, "a")], "P", [(U, "a")]),
        ([(U, "a"), (A, "b"), (U, "c")], "P", [(U, "a"), (A, "b"), (U, "c")]),
        ([(U, "a"), (U, "c")], "P", [(U, "a\n\nc")]),
        ([(U, "a"), (A, "b"), (A, "c"), (U, "d")], "P", [(U, "a"), (A, "b\n\nc"), (U, "d")]),
        ([(S, "a"), (U, "b"), (S, "c"), (A, "d"), (U, "e")], "P\n\na\n\nc", [(U, "b"), (A, "d"), (U, "e")]),
        ([(U, "a"), (S, "b")], "P\n\nb", [(U, "a")]),
        ([(A, "a"), (U, " ")], "P", [(U, BEGINS), (A, "a"), (U, " ")]),
        ([(A, "a"), (S, "b"), (U, "c")], "P\n\nb", [(U, BEGINS), (A, "a"), (U, "c")]),
        ([(U, "a"), (A, "b")], "P", [(U, "a"), (A, "b")]),
    ],
    ids=[
        *("a question", "turns", "an answer that failed", "a call of a tool", "two instructions"),
        *("one at the end", "a greeting", "a greeting before it", "a part of an answer"),
    ],
)
def test_the_system_is_one_text_and_roles_alternate(
    given: list[tuple[Role, str]], system: str, turns: list[tuple[Role, str]]
) -> None:
    said, made = conversation("P", [Message(role=role, content=content) for role, content in given])
    assert said == system
    assert [(message.role, message.content) for message in made] == turns


def test_to_join_many_costs_no_more_than_to_check_each_of_them() -> None:
    many = [Message(role="user", content="a" * 100) for _ in range(10_000)]
    began = process_time()
    each = [Message(role="user", content=message.content) for message in many]
    checked = process_time()
    _, (made,) = conversation("", many)
    assert process_time() - checked < 20 * (checked - began)
    assert made.content == "\n\n".join(message.content for message in each)

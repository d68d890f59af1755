from time import process_time

import pytest

from app.chat.providers.base import Message
from app.chat.turns import in_turns

S, U, A = "system", "user", "assistant"


@pytest.mark.parametrize(
    ("given", "turns"),
    [
        ([(U, "a")], [(U, "a")]),
        ([(U, "a"), (A, "b"), (U, "c")], [(U, "a"), (A, "b"), (U, "c")]),
        ([(U, "a"), (A, " \n"), (U, "c")], [(U, "a\n\nc")]),
        ([(U, "a"), (A, ""), (A, "b"), (U, "c")], [(U, "a"), (A, "b"), (U, "c")]),
        ([(S, "a"), (U, "b"), (S, "c"), (A, "d"), (U, "e")], [(S, "a\n\nc"), (U, "b"), (A, "d"), (U, "e")]),
        ([(U, "a"), (S, "b")], [(S, "b"), (U, "a")]),
        ([(A, "a"), (U, " ")], [(A, "a"), (U, " ")]),
        ([(U, "a"), (A, "b")], [(U, "a"), (A, "b")]),
    ],
    ids=[
        *("a question", "turns", "a blank answer", "a call of a tool", "two instructions"),
        *("one at the end", "a blank question", "a part of an answer"),
    ],
)
def test_one_system_message_comes_first_and_roles_alternate(
    given: list[tuple[str, str]], turns: list[tuple[str, str]]
) -> None:
    made = in_turns([Message(role=role, content=content) for role, content in given])
    assert [(message.role, message.content) for message in made] == turns


def test_to_join_many_costs_no_more_than_to_check_each_of_them() -> None:
    many = [Message(role="user", content="a" * 100) for _ in range(10_000)]
    began = process_time()
    each = [Message(role="user", content=message.content) for message in many]
    checked = process_time()
    (made,) = in_turns(many)
    assert process_time() - checked < 20 * (checked - began)
    assert made.content == "\n\n".join(message.content for message in each)

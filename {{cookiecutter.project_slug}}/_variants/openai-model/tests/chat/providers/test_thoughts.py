"""What servers of OpenAI's API send as a thought, and what they do not."""

from typing import Any

import pytest

from app.chat.providers.thoughts import Thoughts
from app.streams.events import Reasoning


def told(*deltas: dict[str, Any]) -> tuple[str, str]:
    """What was thought, and what was answered. No thought comes behind the first of the answer."""
    thoughts = Thoughts()
    pieces = [*(piece for delta in deltas for piece in thoughts.pieces(delta)), *filter(None, [thoughts.rest()])]
    assert "" not in pieces
    kinds = [isinstance(piece, str) for piece in pieces]
    assert kinds == sorted(kinds)
    answer = "".join(piece for piece in pieces if isinstance(piece, str))
    return "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)), answer


def texts(text: str) -> list[list[dict[str, Any]]]:
    """As one delta, and as one for each character."""
    return [[{"content": text}], [{"content": character} for character in text]]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_either_field_is_a_thought(field: str) -> None:
    assert told({field: "H"}, {field: "m", "content": ""}, {field: None, "content": "Hi"}) == ("Hm", "Hi")


def test_a_thought_in_several_fields_counts_once() -> None:
    details = [{"type": "reasoning.text", "text": "Hm", "format": "f", "index": 0}]
    assert told({"reasoning_content": "Hm", "reasoning": "Hm", "reasoning_details": details}) == ("Hm", "")


def test_what_comes_once_more_in_another_field_counts_once() -> None:
    """As the details do, whole, where a provider signs them at their end."""
    details = [{"type": "reasoning.text", "text": "Hm", "signature": "aGk="}]
    assert told({"reasoning": "Hm"}, {"reasoning_details": details}, {"content": "Hi"}) == ("Hm", "Hi")


def test_details_are_a_thought_where_nothing_else_is() -> None:
    details = [
        {"type": "reasoning.text", "text": "H"},
        {"type": "reasoning.summary", "summary": "m"},
        {"type": "reasoning.encrypted", "data": "aGk="},
    ]
    assert told({"reasoning": None, "reasoning_details": details}, {"content": "Hi"}) == ("Hm", "Hi")


@pytest.mark.parametrize("tag", ["think", "thought"])
@pytest.mark.parametrize("before", ["", "\n", " \n\n "])
@pytest.mark.parametrize("way", [0, 1], ids=["whole", "by characters"])
def test_a_tag_at_the_beginning_is_a_thought(tag: str, before: str, way: int) -> None:
    deltas = texts(f"{before}<{tag}>\nH</m</{tag}>Hi <b></b></{tag}>")[way]
    assert told(*deltas) == ("\nH</m", f"Hi <b></b></{tag}>")


@pytest.mark.parametrize("answer", ["So: <think>Hm</think>", "`<think>` is a tag", "<thinking>Hm", "<thin>", "<", "\n"])
@pytest.mark.parametrize("way", [0, 1], ids=["whole", "by characters"])
def test_any_other_text_is_the_answer(answer: str, way: int) -> None:
    assert told(*texts(answer)[way]) == ("", answer)


@pytest.mark.parametrize("way", [0, 1], ids=["whole", "by characters"])
def test_a_thought_that_does_not_end_is_one(way: int) -> None:
    assert told(*texts("<think>Hm</thi")[way]) == ("Hm</thi", "")


def test_where_a_thought_has_a_field_a_tag_is_the_answer() -> None:
    assert told({"reasoning": "Hm"}, {"content": "<think>"}, {"content": "Hi"}) == ("Hm", "<think>Hi")


def test_what_was_held_back_when_a_thought_came_stays_before_the_answer() -> None:
    assert told({"content": "\n"}, {"reasoning": "Hm"}, {"content": "H"}, {"content": "i"}) == ("Hm", "\nHi")


def test_white_space_without_end_is_not_held_back() -> None:
    thoughts = Thoughts()
    for _ in range(200):
        thoughts.pieces({"content": "\n"})
    assert len(str(thoughts.rest())) <= 100

import pytest

from app.chat.providers.base import Asker, Finish, Message
from app.chat.providers.echo import Echo

ASKER = Asker("anonymous", "1")


@pytest.mark.parametrize("question", ["Hello", "  two  words\n", "\t", "line\r\nbreaks", "\U0001f600 \u00e9"])
async def test_it_answers_with_the_question_verbatim(question: str) -> None:
    *pieces, _ = [piece async for piece in Echo(0).stream([Message(role="user", content=question)], ASKER)]
    assert "".join(map(str, pieces)) == f"You said: {question}"


async def test_it_answers_a_word_at_a_time() -> None:
    pieces = [piece async for piece in Echo(0).stream([Message(role="user", content="Hello there")], ASKER)]
    assert pieces[:-1] == ["You", " said:", " Hello", " there"]
    assert pieces[-1] == Finish(usage={"input_tokens": 2, "output_tokens": 4})

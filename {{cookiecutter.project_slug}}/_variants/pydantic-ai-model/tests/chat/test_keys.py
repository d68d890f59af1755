import asyncio
from collections.abc import ItemsView

import pytest

from app.chat.keys import Keys

CALL = ("send", {"to": "me", "text": "Hi"})


def of(keys: Keys, *what: object, fails: bool = False) -> str:
    """The key of that call, which then ends."""
    try:
        with keys.of_call(*what):
            key = keys.current
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass
    return key


def test_the_same_calls_for_the_same_question_have_the_same_keys() -> None:
    one, again = Keys("question"), Keys("question")
    assert [of(one, *CALL), of(one, *CALL)] == [of(again, *CALL), of(again, "send", {"text": "Hi", "to": "me"})]


def test_other_calls_equal_calls_and_other_questions_have_keys_of_their_own() -> None:
    keys = Keys("question")
    calls = [CALL, CALL, CALL, ("send", {"to": "you", "text": "Hi"}), ("index", CALL[1])]
    assert len({of(keys, *call) for call in calls} | {of(Keys("other"), *CALL)}) == 6


def test_a_call_that_has_failed_is_made_again_with_its_key() -> None:
    keys = Keys("question")
    assert of(keys, *CALL, fails=True) == of(keys, *CALL) != of(keys, *CALL)


class Counted(dict[str, str]):
    """Arguments that count how often they are written as JSON."""

    written = 0

    def items(self) -> ItemsView[str, str]:  # type: ignore[override]
        self.written += 1
        return super().items()


def test_each_of_many_equal_calls_costs_the_same() -> None:
    """A model may make a thousand at once, and the whole process waits while their keys are made."""
    keys, arguments = Keys("question"), Counted(CALL[1])
    costs = []
    for _ in range(50):
        before = arguments.written
        of(keys, "send", arguments)
        costs.append(arguments.written - before)
    assert set(costs) == {costs[0]} != {0}


async def test_calls_that_run_at_once_have_their_own() -> None:
    keys = Keys("question")

    async def call() -> str:
        with keys.of_call(*CALL):
            await asyncio.sleep(0)
            return keys.current

    assert len(set(await asyncio.gather(call(), call(), call()))) == 3


def test_outside_of_a_call_there_is_none() -> None:
    keys = Keys("question")
    of(keys, *CALL)
    with pytest.raises(LookupError):
        keys.current  # noqa: B018

import math
from typing import Any

import pytest

from app.jobs.result import BadResult, from_text, to_text


def nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("result", [None, [10**4000], "caf\u00e9 \U0001f600", {"a": [1.5, {"1": True}]}, nested(150)])
def test_what_was_kept_is_read_as_it_was(result: Any) -> None:
    assert from_text(to_text(result, 10_000)) == result


@pytest.mark.parametrize(
    "result",
    [
        [10**5000],
        math.nan,
        {"a": [-math.inf]},
        "\ud800",
        b"\xff",
        object(),
        nested(5000),
        lambda: None,
    ],
)
def test_what_json_can_not_carry_is_no_result(result: Any) -> None:
    with pytest.raises(BadResult, match="The job's result "):
        to_text(result, 10_000)


def test_a_result_may_be_so_large_and_no_larger() -> None:
    assert len(to_text("\u20ac" * 3, 11)) == 5
    with pytest.raises(BadResult, match="larger than 10 bytes"):
        to_text("\u20ac" * 3, 10)


@pytest.mark.parametrize("text", ["1" * 5000, "[" * 100_000 + "]" * 100_000, "{"], ids=["large", "deep", "cut"])
def test_a_result_that_nobody_can_read_is_told_of(text: str) -> None:
    with pytest.raises(BadResult, match="succeeded, but its result can't be read"):
        from_text(text)

"""Where answers are kept in tests: in memory, as in the service."""

from collections.abc import Callable
from functools import partial

import pytest

from app.chat.answer_settings import AnswerSettings


@pytest.fixture(scope="session")
def store_env() -> dict[str, str]:
    """What a served process needs for it."""
    return {}


@pytest.fixture(scope="session")
def answer_settings() -> Callable[..., AnswerSettings]:
    """`answer_settings(max_answers=2)`: all others are the defaults."""
    return partial(AnswerSettings, _env_file=None)

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from app.admission import Admit
from app.chat.answer_settings import AnswerSettings
from app.chat.answer_store import AnswerStore
from app.chat.answers import Answers
from app.chat.providers.base import Provider
from app.settings import Settings
from app.shutdown import Shutdown
from tests.chat.asking import Open
from tests.providers import ScriptedProvider


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown(1)


@pytest.fixture
async def open_answers(
    settings: Settings, shutdown: Shutdown, answer_settings: Callable[..., AnswerSettings]
) -> AsyncIterator[Open]:
    """`open_answers(provider, admit=None, **times)`."""
    async with AsyncExitStack() as stack:

        async def open_answers(
            provider: Provider, asked_of: Settings = settings, admit: Admit | None = None, **times: float
        ) -> Answers:
            limits = answer_settings(**times)
            store = await stack.enter_async_context(AnswerStore.open(limits))
            answers = Answers(store, provider, asked_of, limits, shutdown, admit)
            stack.push_async_callback(answers.close)
            stack.callback(answers.lose_all)
            return answers

        yield open_answers


@pytest.fixture
def answers_of(open_answers: Open) -> Open:
    """`answers_of(*script, admit=None, **times)`."""
    return lambda *script, **times: open_answers(ScriptedProvider(*script), **times)

"""What a page gets where its streams are limited, in number or in time."""

import json
from collections.abc import Callable

from app.chat.answer_settings import AnswerSettings
from app.settings import Settings
from tests.chat.test_ai_sdk import chunks
from tests.chat.test_ai_sdk_resume import page_of, said, text_of, until
from tests.providers import ScriptedProvider

SOON = 0.05


async def test_beyond_its_limit_a_caller_may_come_back_to_a_chat_but_not_begin_another(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    """A page says by no header that it comes back. Its lost connection may be open still."""
    provider = ScriptedProvider("a", 60.0)
    limited = settings.model_copy(update={"max_streams_per_caller": 1})
    async with page_of(limited, provider, answer_settings()) as page, page.post() as first:
        await until(first, '"a"')
        for again in (page.get, page.post):
            async with again() as stream:
                assert '"a"' in await until(stream, '"a"')
        async with page.post(chat_id="c-2") as refused:
            assert (refused.status, refused.headers["retry-after"]) == (429, "2")
            assert json.loads(await refused.text()) == {
                "detail": "too many streams at once: try again when one has ended"
            }
        assert len(provider.asked) == 1
        async with page.post(said("Something else")) as other:  # in place of the answer that runs, which ends
            assert await until(other, '"a"')


async def test_a_page_whose_stream_has_lasted_too_long_is_told_and_comes_back_to_all_of_the_answer(
    settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    provider = ScriptedProvider("a", 4 * SOON, "b")
    limited = settings.model_copy(update={"max_stream_seconds": SOON})
    async with page_of(limited, provider, answer_settings()) as page:
        async with page.post() as first:
            start, *_, error = chunks(await first.rest())
            assert error == {"type": "error", "errorText": "The server is restarting."}
        body = ""
        while "[DONE]" not in body:
            async with page.get() as again:
                body = await again.rest()
        assert (chunks(body)[0], text_of(body)) == (start, "ab")

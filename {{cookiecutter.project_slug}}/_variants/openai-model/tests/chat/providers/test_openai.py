"""The provider against a service on real sockets, which says what OpenAI's would say."""

import asyncio
import io
import json
import logging
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from app import logs
from app.chat.answer_settings import AnswerSettings
from app.chat.providers.base import Asker, Finish, Message, ModelError, Provider
from app.chat.providers.openai import OpenAI
from app.chat.providers.settings import ProviderSettings
from app.settings import Settings
from app.streams.events import Event, Reasoning
from tests.asgi import exchange
from tests.closing import WHY, sees_it_closed
from tests.endless import ENDLESS
from tests.sse import parse
from tests.upstream import Answer, Upstream, upstream

KEY = "sk-hidden"
ASKER = Asker("anonymous", "1")
QUESTION = [Message(role="user", content="Hi")]


def data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


def chunk(text: Any = None, finish: str | None = None, **fields: Any) -> str:
    choice = {"index": 0, "delta": {"content": text, **fields}, "finish_reason": finish}
    return data({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USAGE = data({"choices": [], "usage": COUNTS})
END = "data: [DONE]\n\n"
HELLO = Answer([chunk("Hel"), chunk("lo"), chunk(finish="stop"), USAGE, END])
LIMITED = Answer.problem(429, {"error": {"message": "slow down"}}, **{"Retry-After-Ms": "1"})
BROKEN = Answer.problem(503, {"error": {"message": "overloaded"}}, **{"Retry-After-Ms": "1"})


def settings_for(service: Upstream, **settings: Any) -> ProviderSettings:
    values = {"openai_api_key": KEY, "openai_base_url": f"{service.url}/v1", **settings}
    return ProviderSettings(_env_file=None, model_provider="openai", **values)


@asynccontextmanager
async def asked(*answers: Answer, **settings: Any) -> AsyncIterator[tuple[OpenAI, Upstream]]:
    async with upstream(*answers) as service, OpenAI(settings_for(service, **settings)) as provider:
        yield provider, service


async def answer_of(provider: OpenAI, messages: Sequence[Message] = QUESTION) -> list[str | Event | Finish]:
    """Without its empty pieces."""
    return [piece async for piece in provider.stream(messages, ASKER) if piece]


async def test_it_yields_the_answer_piece_by_piece_and_what_it_took() -> None:
    async with asked(HELLO) as (provider, _):
        assert await answer_of(provider) == ["Hel", "lo", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


async def test_a_piece_is_there_before_the_next_is_made() -> None:
    more = asyncio.Event()
    answer = Answer([chunk("Hel"), more, chunk("lo"), chunk(finish="stop"), END])
    async with asked(answer) as (provider, _), aclosing(provider.stream(QUESTION, ASKER)) as pieces:
        assert await anext(pieces) == "Hel"
        more.set()
        assert await anext(pieces) == "lo"


async def test_the_settings_and_the_history_go_along() -> None:
    history = [Message(role="user", content="one"), Message(role="assistant", content="two"), *QUESTION]
    settings = {"model_name": "m-1", "system_prompt": "Be brief.", "model_max_tokens": 7, "model_temperature": 0.5}
    async with asked(HELLO, **settings) as (provider, service):
        await answer_of(provider, history)
    (request,) = service.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "temperature": 0.5,
    }


async def test_what_is_not_set_is_left_to_the_model() -> None:
    async with asked(HELLO) as (provider, service):
        await answer_of(provider)
    assert [message["role"] for message in service.requests[0].body["messages"]] == ["user"]
    assert "temperature" not in service.requests[0].body


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "end"),
        ("eos", "end"),
        ("tool_calls", "end"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "refusal"),
        ("content_filter: PROHIBITED_CONTENT", "refusal"),
        ("SAFETY", "refusal"),
    ],
)
async def test_how_it_finished_is_said_in_our_words(said: str, reason: str) -> None:
    async with asked(Answer([chunk("Hi"), chunk(finish=said), END])) as (provider, _):
        assert (await answer_of(provider))[-1] == Finish(reason)  # type: ignore[arg-type]


async def test_what_some_servers_leave_out_is_no_fault() -> None:
    choices: list[Any] = [None, {"delta": None}, {"delta": []}, {"index": 0, "delta": {}, "finish_reason": "stop"}]
    spare: list[Any] = [None, {}, {"choices": None}, {"choices": {}}, {"choices": choices}]
    async with asked(Answer([chunk("Hi"), *map(data, spare), END])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end")]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, {}),
        ("much", {}),
        ([COUNTS], {}),
        ({"completion_tokens": 4}, {"input_tokens": 0, "output_tokens": 4}),
        ({"prompt_tokens": None, "completion_tokens": "4"}, {"input_tokens": 0, "output_tokens": 0}),
        (COUNTS, {"input_tokens": 3, "output_tokens": 2}),
        ({**COUNTS, "total_tokens": 9}, {"input_tokens": 3, "output_tokens": 6}),
        ({**COUNTS, "total_tokens": 0}, {"input_tokens": 3, "output_tokens": 2}),
    ],
    ids=["null", "a text", "a list", "a part of it", "no numbers", "beside a choice", "thoughts apart", "no total"],
)
async def test_usage_is_never_the_price_of_an_answer(usage: Any, counts: dict[str, int]) -> None:
    last = data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
    async with asked(Answer([chunk("Hi"), last, data({"choices": [], "usage": None}), END])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", counts)]


async def test_of_a_list_of_parts_the_texts_and_the_thoughts_come_in_order() -> None:
    """As Mistral's models that think have it."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]}
    parts = [thought, {"type": "text", "text": "Hel"}, {"type": "reference", "reference_ids": [1]}, {"text": "lo"}]
    answer = Answer([chunk([thought]), chunk(parts), chunk([]), chunk(finish="stop"), END])
    async with asked(answer) as (provider, _):
        pieces = [piece async for piece in provider.stream(QUESTION, ASKER)]
    assert pieces == [Reasoning("Hm."), Reasoning("Hm."), "Hel", "lo", "", "", Finish("end")]


@pytest.mark.parametrize("said", ["abort", "insufficient_system_resource", 7, {"type": "stop"}, ["stop"]])
async def test_an_ending_that_is_not_known_is_no_success(said: Any) -> None:
    async with asked(Answer([chunk("Hi"), chunk(finish=said), END])) as (provider, _):
        with pytest.raises(ModelError, match=r"in a way that is not known: .*(abort|insufficient|7|stop)"):
            await answer_of(provider)


async def test_an_answer_whose_connection_breaks_after_its_end_is_whole() -> None:
    async with asked(Answer([chunk("Hi"), chunk(finish="stop"), USAGE], whole=False)) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


async def test_what_a_filter_thinks_of_the_question_is_no_cause_of_an_end() -> None:
    """Azure's first chunk has that, and an empty list of choices."""
    thinks = data({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    async with asked(Answer([thinks, chunk("Hel"), END])) as (provider, _):
        with pytest.raises(ModelError, match=r"it ended without a reason$"):
            await answer_of(provider)


async def test_an_error_in_one_piece_is_said_in_the_services_words() -> None:
    error = Answer.problem(200, {"choices": [], "error": {"message": "upstream failed", "code": 502}})
    async with asked(error) as (provider, _):
        with pytest.raises(ModelError, match="upstream failed"):
            await answer_of(provider)


async def test_an_answer_in_one_piece_is_an_answer() -> None:
    """Some servers don't stream, whatever they are asked for."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    async with asked(Answer.problem(200, {"choices": [choice], "usage": COUNTS})) as (provider, _):
        assert await answer_of(provider) == ["Hello", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


async def test_a_last_chunk_with_the_answer_once_more_adds_nothing() -> None:
    """As MiniMax has it."""
    last = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}]}
    async with asked(Answer([chunk("Hello"), data(last), END])) as (provider, _):
        assert await answer_of(provider) == ["Hello", Finish("end")]


@pytest.mark.parametrize(
    ("refusals", "sent"),
    [
        ([], {"max_tokens", "stream_options"}),
        ([{"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}],
         {"max_completion_tokens", "stream_options"}),
        ([{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}], {"max_tokens"}),
        ([{"error": {"param": "stream_options"}}, {"error": {"param": "max_tokens"}}], {"max_completion_tokens"}),
    ],
    ids=["nothing", "max_tokens", "stream_options", "both"],
)  # fmt: skip
async def test_a_parameter_that_is_refused_is_not_sent_again(refusals: list[Any], sent: set[str]) -> None:
    answers = [Answer.problem(400, refusal) for refusal in refusals]
    async with asked(*answers, HELLO, HELLO) as (provider, service):
        assert (await answer_of(provider))[:2] == ["Hel", "lo"]
        await answer_of(provider)
    assert len(service.requests) == len(refusals) + 2
    for request in service.requests[-2:]:
        assert request.body.keys() - {"model", "messages", "stream"} == sent
        assert request.body.get("max_tokens", request.body.get("max_completion_tokens")) == 4096


@pytest.mark.parametrize(
    "said",
    ["max_tokens is wrong", "max_completion_tokens and max_tokens are wrong", "messages[0] is wrong"],
)
async def test_a_request_that_stays_wrong_ends_in_the_services_words(said: str) -> None:
    problem = Answer.problem(400, {"error": {"message": said}})
    async with asked(problem, problem, HELLO) as (provider, _):
        with pytest.raises(ModelError, match=f"400: .*{re.escape(said)}"):
            await answer_of(provider)
        assert "max_tokens" in provider._parameters


@pytest.mark.parametrize(
    "said",
    [
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        "max_tokens is too large: 9999. This model supports at most 4096 completion tokens",
        "`max_tokens` must be less than or equal to `4096`",
    ],
)
async def test_a_limit_that_is_too_high_is_not_sent_by_another_name(said: str) -> None:
    """DeepSeek, for one, would ignore that, and answer without a limit."""
    async with asked(Answer.problem(400, {"error": {"message": said}}), HELLO) as (provider, service):
        with pytest.raises(ModelError, match=f"400: .*{re.escape(said)}"):
            await answer_of(provider)
        assert len(service.requests) == 1


async def test_a_page_in_place_of_an_answer_is_said_without_the_key() -> None:
    page = Answer([f"<html><b>Sign in</b>, {KEY}"], headers={"Content-Type": "Text/HTML"})
    async with asked(page) as (provider, _):
        with pytest.raises(ModelError, match=r"no JSON: Sign in , \*\*\*$"):
            await answer_of(provider)


async def test_parameters_of_the_settings_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"MODEL_EXTRA": {"top_p": 0.9, "chat_template_kwargs": {"enable_thinking": False}}}
    async with asked(HELLO, model_max_tokens_parameter="max_new_tokens", **extra) as (provider, service):
        await answer_of(provider)
    body = service.requests[0].body
    assert (body["max_new_tokens"], body["top_p"]) == (4096, 0.9)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "max_tokens" not in body


async def test_there_is_one_system_message_and_it_is_the_first() -> None:
    messages = [Message(role="system", content="In English."), *QUESTION]
    async with asked(HELLO, system_prompt="Be brief.") as (provider, service):
        await answer_of(provider, messages)
    assert service.requests[0].body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nIn English."},
        {"role": "user", "content": "Hi"},
    ]


UNREADABLE = {
    "a number as the text": (chunk(1.50), "content is of the type float"),
    "zero as the text": (chunk(0), "content is of the type int"),
    "an object as the text": (chunk({"text": "lo"}), "content is of the type dict"),
    "a number as the refusal": (chunk(refusal=7), "refusal is of the type int"),
    "a number in a part": (chunk([{"type": "text", "text": 7}]), "content is of the type int"),
    "a text as a part": (chunk(["lo"]), "a part of content is of the type str"),
    "a text as the delta": (data({"choices": [{"delta": "lo"}]}), "delta is of the type str"),
    "a text as a choice": (data({"choices": ["lo"]}), "a choice is of the type str"),
    "an object as the choices": (data({"choices": {"delta": "lo"}}), "choices is of the type dict"),
    "a text as a chunk": (data("lo"), "a chunk is of the type str"),
    "half a chunk": (chunk("lo")[:-9] + "\n\n", "JSONDecodeError: "),
    "no end to its depth": (f"data: {'[' * 100_000}\n\n", "RecursionError: "),
    "no UTF-8": (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', "UnicodeDecodeError: "),
}


@pytest.mark.parametrize(("odd", "says"), UNREADABLE.values(), ids=UNREADABLE)
async def test_what_may_be_a_piece_of_the_answer_and_cannot_be_read_is_an_error(odd: str | bytes, says: str) -> None:
    """Its one line says where, and shows nothing of the answer."""
    pieces = []
    async with asked(Answer([chunk("Hel"), odd, chunk(finish="stop"), END])) as (provider, service):
        with pytest.raises(ModelError, match=f"^the answer can't be read: {says}") as raised:
            async for piece in provider.stream(QUESTION, ASKER):
                pieces.append(piece)
    assert pieces == ["Hel"]
    assert raised.value.retryable
    assert "\n" not in str(raised.value)
    assert "lo" not in str(raised.value).split()
    assert len(service.requests) == 1


async def test_an_answer_that_cannot_be_read_ends_as_a_model_error_and_the_log_says_why(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    async with asked(Answer([chunk("Hel"), chunk(7), END])) as (provider, _):
        app = build(settings, provider)
        async with (
            app.router.lifespan_context(app) as state,
            exchange(app, "/chat/stream", body={"question": "Hi"}, **state) as stream,  # type: ignore[arg-type]
        ):
            _, token, error, done = parse(await stream.rest())
    assert (token.data["text"], error.data["code"], done.data["reason"]) == ("Hel", "model_error", "error")
    assert "the model failed: the answer can't be read: content is of the type int" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_refusal_is_text_and_a_reason() -> None:
    async with asked(Answer([chunk(refusal="I won't."), chunk(finish="stop"), END])) as (provider, _):
        assert await answer_of(provider) == ["I won't.", Finish("refusal")]


async def test_what_it_thinks_is_no_part_of_the_answer() -> None:
    thought = chunk(reasoning_content="Hm.")  # as servers of open models say it
    async with asked(Answer([thought, chunk("Hi"), chunk(finish="stop"), END])) as (provider, _):
        assert [piece async for piece in provider.stream(QUESTION, ASKER)][:2] == [Reasoning("Hm."), "Hi"]


async def test_a_thought_and_a_text_of_one_chunk_come_in_this_order() -> None:
    async with asked(Answer([chunk("Hi", reasoning="Hm."), chunk(finish="stop"), END])) as (provider, _):
        assert await answer_of(provider) == [Reasoning("Hm."), "Hi", Finish("end")]


async def test_an_answer_in_one_piece_has_its_thoughts_before_it() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    async with asked(Answer.problem(200, {"choices": [choice]})) as (provider, _):
        assert await answer_of(provider) == [Reasoning("Hm."), "Hello", Finish("end")]


@pytest.mark.parametrize("odd", [7, True, {"text": "Hm."}, [7, {"text": 7}], ["Hm."]])
async def test_a_thought_that_cannot_be_read_is_left_out_but_a_sign_of_life(odd: Any) -> None:
    """It is no piece of the answer."""
    async with asked(Answer([chunk(reasoning=odd), chunk("Hi"), chunk(finish="stop"), END])) as (provider, _):
        assert [piece async for piece in provider.stream(QUESTION, ASKER)][:2] == ["", "Hi"]


async def test_an_answer_that_breaks_off_within_half_a_tag_has_that_too() -> None:
    pieces = []
    async with asked(Answer([chunk("<th"), END])) as (provider, _):
        with pytest.raises(ModelError, match="the answer broke off"):
            async for piece in provider.stream(QUESTION, ASKER):
                pieces.append(piece)
    assert pieces == ["", "<th"]


@pytest.mark.parametrize(
    ("details", "counts"),
    [
        ({"reasoning_tokens": 1}, {"reasoning_tokens": 1}),
        ({"reasoning_tokens": 0}, {}),
        ({"reasoning_tokens": "1"}, {}),
        (None, {}),
        ([1], {}),
    ],
)
async def test_tokens_of_thoughts_are_counted_apart_where_there_are_any(details: Any, counts: dict[str, int]) -> None:
    usage = data({"choices": [], "usage": {**COUNTS, "completion_tokens_details": details}})
    async with asked(Answer([chunk("Hi"), chunk(finish="stop"), usage, END])) as (provider, _):
        finish = (await answer_of(provider))[-1]
    assert finish == Finish("end", {"input_tokens": 3, "output_tokens": 2, **counts})


async def test_a_tool_that_the_service_uses_itself_breaks_no_answer() -> None:
    """As Groq's systems tell of theirs, and OpenRouter's plugins of what they have read."""
    tool = {"index": 0, "type": "search", "arguments": '{"query": "Hi"}', "output": None}
    note = {"type": "url_citation", "url_citation": {"url": "https://example.com/", "start_index": 0}}
    call = {"index": 0, "id": "t-1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    used = [chunk(executed_tools=[tool]), chunk(tool_calls=[call]), chunk("Hi", annotations=[note])]
    async with asked(Answer([*used, chunk(finish="stop"), END])) as (provider, _):
        assert [piece async for piece in provider.stream(QUESTION, ASKER)][:3] == ["", "", "Hi"]


@pytest.mark.parametrize("problem", [LIMITED, BROKEN], ids=["rate limit", "5xx"])
async def test_a_service_that_recovers_before_the_first_token_is_asked_again(problem: Answer) -> None:
    async with asked(problem, problem, HELLO) as (provider, service):
        assert "".join(map(str, (await answer_of(provider))[:-1])) == "Hello"
    assert len(service.requests) == 3


@pytest.mark.parametrize("problem", [LIMITED, BROKEN], ids=["rate limit", "5xx"])
async def test_it_is_asked_again_so_often_and_no_more(problem: Answer) -> None:
    async with asked(problem, problem, model_max_retries=1) as (provider, service):
        with pytest.raises(ModelError) as raised:
            await answer_of(provider)
    assert raised.value.retryable
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    "broken",
    [
        Answer([chunk("Hel"), data({"error": {"message": "out of memory"}})]),
        Answer([chunk("Hel")], whole=False),
        Answer([chunk("Hel")]),
        Answer([chunk("Hel"), END]),
    ],
    ids=["an error", "the connection is lost", "the end without a word", "the end without a reason"],
)
async def test_what_breaks_after_the_first_token_is_an_error_and_is_not_tried_again(broken: Answer) -> None:
    pieces = []
    async with asked(broken, HELLO) as (provider, service):
        with pytest.raises(ModelError) as raised:
            async for piece in provider.stream(QUESTION, ASKER):
                pieces.append(piece)
    assert pieces == ["Hel"]
    assert raised.value.retryable
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("error", "says", "code"),
    [
        ({"message": f"no such\nkey: {KEY}"}, r'"no such\\nkey: \*\*\*"', "model_error"),
        ({"message": 7}, '"message":7', "model_error"),
        ("out of memory", '"out of memory"', "model_error"),
        ({"message": "slow down", "code": 429}, "429: .*slow down", "model_busy"),
        ({"message": "bad", "code": "400"}, "400: .*bad", "model_error"),
    ],
    ids=["a message", "a number", "a text", "a rate limit", "a wrong request"],
)
async def test_an_error_amid_the_answer_is_said_in_the_services_words(error: Any, says: str, code: str) -> None:
    async with asked(Answer([chunk("Hel"), data({"error": error, "choices": []})])) as (provider, _):
        with pytest.raises(ModelError, match=f"^APIError: .*{says}") as raised:
            await answer_of(provider)
    assert raised.value.code == code
    assert raised.value.retryable == ("bad" not in says)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_request_that_is_wrong_is_not_worth_a_retry_and_the_key_stays_secret(status: int) -> None:
    problem = Answer.problem(status, {"error": {"message": f"no such key: {KEY}\nor model"}})
    async with asked(problem) as (provider, service):
        with pytest.raises(ModelError, match=r"no such key: \*\*\*") as raised:
            await answer_of(provider)
    assert not raised.value.retryable
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(service.requests) == 1


@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS)
async def test_what_has_no_end_is_an_error_and_is_not_kept(answer: Answer) -> None:
    async with asked(answer) as (provider, service):
        tracemalloc.start()
        with pytest.raises(ModelError, match=r"sent more than 1,048,576 bytes of one (event|error)$"):
            await answer_of(provider)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024
    assert len(service.requests) == 1


async def test_a_service_that_is_not_there_is_an_error() -> None:
    async with upstream() as service:
        settings = settings_for(service, model_max_retries=0)
    async with OpenAI(settings) as provider:
        with pytest.raises(ModelError, match=r"APIConnectionError: .*\(ConnectError: .*\), asked at 127\.0\.0\.1:\d+"):
            await answer_of(provider)


def test_without_a_key_the_start_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_PROVIDER", raising=False)
    with pytest.raises(SystemExit, match=r"(?m)^OPENAI_API_KEY: must be set; MODEL_PROVIDER=echo runs without one$"):
        ProviderSettings.read()
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    assert ProviderSettings.read().model_provider == "echo"


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?v=2", "https://host/v1#", "host/v1"])
def test_a_base_url_that_no_path_can_follow_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(SystemExit, match=r"(?m)^OPENAI_BASE_URL: ") as refused:
        ProviderSettings.read()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("waits", ["for its first token", "for the next", "for the response"])
@pytest.mark.parametrize("why", WHY)
async def test_the_service_sees_its_connection_closed(
    why: str, waits: str, settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    """At once: what goes on being made is paid for."""
    never = asyncio.Event()
    answer = {
        "for its first token": Answer([chunk(""), never]),
        "for the next": Answer([chunk("Hel"), never]),
        "for the response": Answer([never]),
    }[waits]
    await sees_it_closed(why, lambda: asked(answer), settings, answer_settings)


async def test_at_the_level_debug_the_log_has_no_question_no_answer_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a library is shown below WARNING: an SDK may write down what it sends, and its HTTP client to whom."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("app"), "level", logging.NOTSET)
    logs.set_up("DEBUG", "json")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written := io.StringIO())
    answer = Answer([chunk(f"{KEY} Hel"), chunk(finish="stop"), END])
    async with asked(BROKEN, answer, Answer.problem(400, {"error": {"message": "-"}})) as (provider, service):
        assert f"{KEY} Hel" in await answer_of(provider, [Message(role="user", content=f"Who is {KEY}?")])
        with pytest.raises(ModelError):
            await answer_of(provider, [Message(role="user", content=f"Who is {KEY}?")])
    assert len(service.requests) == 3
    assert written.getvalue() == ""

"""The provider against a service on real sockets, which says what Anthropic's would say."""

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
from app.chat.providers.anthropic import Anthropic
from app.chat.providers.base import Asker, Finish, Message, ModelError, Provider
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


def said(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def text(piece: Any) -> str:
    return said("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})


def ended(reason: str) -> str:
    return said("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2})


USAGE = {"input_tokens": 3, "output_tokens": 1}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "usage": USAGE}
START = said("message_start", message=MESSAGE)
STOP = said("message_stop")
HELLO = Answer([START, text("Hel"), said("ping"), text("lo"), ended("end_turn"), STOP])


def refused(status: int, kind: str) -> Answer:
    return Answer.problem(status, {"type": "error", "error": {"type": kind, "message": "-"}}, **{"Retry-After-Ms": "1"})


LIMITED = refused(429, "rate_limit_error")
BROKEN = refused(529, "overloaded_error")


def settings_for(service: Upstream, **settings: Any) -> ProviderSettings:
    values = {"anthropic_api_key": KEY, "anthropic_base_url": f"{service.url}/v1", **settings}
    return ProviderSettings(_env_file=None, model_provider="anthropic", **values)


@asynccontextmanager
async def asked(*answers: Answer, **settings: Any) -> AsyncIterator[tuple[Anthropic, Upstream]]:
    async with upstream(*answers) as service, Anthropic(settings_for(service, **settings)) as provider:
        yield provider, service


async def answer_of(provider: Anthropic, messages: Sequence[Message] = QUESTION) -> list[str | Event | Finish]:
    """Without its empty pieces."""
    return [piece async for piece in provider.stream(messages, ASKER) if piece]


async def test_it_yields_the_answer_piece_by_piece_and_what_it_took() -> None:
    async with asked(HELLO) as (provider, _):
        assert await answer_of(provider) == ["Hel", "lo", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


async def test_a_piece_is_there_before_the_next_is_made() -> None:
    more = asyncio.Event()
    answer = Answer([START, text("Hel"), more, text("lo"), ended("end_turn"), STOP])
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
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "max_tokens": 7,
        "temperature": 0.5,
    }


async def test_instructions_among_the_messages_follow_those_of_the_settings() -> None:
    async with asked(HELLO, system_prompt="Be brief.") as (provider, service):
        await answer_of(provider, [Message(role="system", content="Rhyme."), *QUESTION])
    assert service.requests[0].body["system"] == "Be brief.\n\nRhyme."
    assert [message["role"] for message in service.requests[0].body["messages"]] == ["user"]


async def test_what_is_not_set_is_left_to_the_model() -> None:
    async with asked(HELLO) as (provider, service):
        await answer_of(provider)
    assert service.requests[0].body.keys().isdisjoint({"system", "temperature"})


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("end_turn", "end"),
        ("stop_sequence", "end"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
    ],
)
async def test_how_it_finished_is_said_in_our_words(stop_reason: str, reason: str) -> None:
    async with asked(Answer([START, text("Hi"), ended(stop_reason), STOP])) as (provider, _):
        assert (await answer_of(provider))[-1] == Finish(reason, {"input_tokens": 3, "output_tokens": 2})  # type: ignore[arg-type]


def thought(text: Any) -> str:
    return said("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": text})


def begun(**block: Any) -> str:
    return said("content_block_start", index=0, content_block=block)


async def test_what_it_thinks_is_no_part_of_the_answer() -> None:
    async with asked(Answer([START, thought("Hm."), text("Hi"), ended("end_turn"), STOP])) as (provider, _):
        assert [piece async for piece in provider.stream(QUESTION, ASKER)][:-1] == [Reasoning("Hm."), "Hi"]


async def test_a_thought_that_is_hidden_and_a_signature_are_signs_of_life() -> None:
    hidden = begun(type="redacted_thinking", data="aGk=")
    signed = said("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "aGk="})
    async with asked(Answer([START, hidden, signed, text("Hi"), ended("end_turn"), STOP])) as (provider, _):
        assert [piece async for piece in provider.stream(QUESTION, ASKER)][:-1] == ["", "", "Hi"]


@pytest.mark.parametrize("odd", [None, 7, {"text": "Hm."}, [7]])
async def test_a_thought_that_cannot_be_read_is_left_out(odd: Any) -> None:
    """It is no piece of the answer."""
    async with asked(Answer([START, thought(odd), text("Hi"), ended("end_turn"), STOP])) as (provider, _):
        assert [piece async for piece in provider.stream(QUESTION, ASKER)][:-1] == ["", "Hi"]


async def test_a_block_may_begin_with_a_piece() -> None:
    blocks = [begun(type="thinking", thinking="H"), thought("m."), begun(type="text", text="Hel"), text("lo")]
    async with asked(Answer([START, *blocks, ended("end_turn"), STOP])) as (provider, _):
        assert (await answer_of(provider))[:-1] == [Reasoning("H"), Reasoning("m."), "Hel", "lo"]


async def test_a_tool_that_the_service_uses_itself_breaks_no_answer() -> None:
    """What it has found is counted at the end, in the tokens that went in."""
    query = said("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"query": "Hi"}'})
    result = {"type": "web_search_result", "url": "https://example.com/", "title": "Hi", "encrypted_content": "aGk="}
    cited = said("content_block_delta", index=3, delta={"type": "citations_delta", "citation": {"cited_text": "Hi"}})
    used = [
        text("I search. "),
        begun(type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        query,
        begun(type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[result]),
        cited,
        text("Hi"),
    ]
    end = said("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 99, "output_tokens": 2})
    async with asked(Answer([START, *used, end, STOP])) as (provider, _):
        assert await answer_of(provider) == [
            "I search. ", "Hi", Finish("end", {"input_tokens": 99, "output_tokens": 2})
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("details", "counts"),
    [
        ({"thinking_tokens": 1}, {"reasoning_tokens": 1}),
        ({"thinking_tokens": 0}, {}),
        ({"thinking_tokens": "1"}, {}),
        (None, {}),
    ],
)
async def test_tokens_of_thoughts_are_counted_apart_where_there_are_any(details: Any, counts: dict[str, int]) -> None:
    usage = {"input_tokens": None, "output_tokens": 2, "output_tokens_details": details}
    end = said("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    async with asked(Answer([START, text("Hi"), end, STOP])) as (provider, _):
        finish = (await answer_of(provider))[-1]
    assert finish == Finish("end", {"input_tokens": 3, "output_tokens": 2, **counts})


async def test_it_is_asked_to_think_as_long_as_the_settings_say() -> None:
    """The SDK has a limit of its own for `max_tokens`, of answers that it does not stream."""
    async with asked(HELLO, model_thinking_tokens=64_000, model_max_tokens=128_000) as (provider, service):
        await answer_of(provider)
    body = service.requests[0].body
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 64_000}
    assert body["max_tokens"] == 128_000


async def test_without_that_it_is_not_asked_to_think() -> None:
    async with asked(HELLO) as (provider, service):
        await answer_of(provider)
    assert "thinking" not in service.requests[0].body


NO_BUDGET = Answer.problem(
    400,
    {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" instead.',
        },
    },
)


async def test_a_model_that_takes_no_budget_decides_itself_how_much_it_thinks(caplog: pytest.LogCaptureFixture) -> None:
    """As those since Claude Opus 4.7 do. What these think is hidden unless a request wants it."""
    async with asked(NO_BUDGET, HELLO, HELLO, model_thinking_tokens=1024) as (provider, service):
        assert (await answer_of(provider))[:2] == ["Hel", "lo"]
        await answer_of(provider)
    at_first, *later = (request.body["thinking"] for request in service.requests)
    assert at_first == {"type": "enabled", "budget_tokens": 1024}
    assert later == [{"type": "adaptive", "display": "summarized"}] * 2
    assert caplog.text.count("the model takes no MODEL_THINKING_TOKENS") == 1


async def test_two_that_are_refused_at_once_are_both_asked_again() -> None:
    refuse = asyncio.Event()
    late = Answer([refuse, *NO_BUDGET.pieces], NO_BUDGET.status, NO_BUDGET.headers)
    async with asked(late, late, HELLO, HELLO, model_thinking_tokens=1024) as (provider, service):
        answers = []
        for _ in range(2):
            service.waiting.clear()
            answers.append(asyncio.create_task(answer_of(provider)))
            await service.waiting.wait()
        refuse.set()
        assert [answer[:2] for answer in await asyncio.gather(*answers)] == [["Hel", "lo"]] * 2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, NO_BUDGET),
        ({"MODEL_EXTRA": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, NO_BUDGET),
        ({"model_thinking_tokens": 1024}, Answer.problem(400, {"error": {"message": "max_tokens is too large"}})),
    ],
    ids=["nothing was asked for", "MODEL_EXTRA asked for it", "another cause"],
)
async def test_any_other_refusal_is_an_error(settings: dict[str, Any], problem: Answer) -> None:
    async with asked(problem, HELLO, **settings) as (provider, service):
        with pytest.raises(ModelError, match="BadRequestError: 400"):
            await answer_of(provider)
    assert len(service.requests) == 1


async def test_a_model_that_takes_neither_is_asked_no_third_time() -> None:
    async with asked(NO_BUDGET, NO_BUDGET, HELLO, model_thinking_tokens=1024) as (provider, service):
        with pytest.raises(ModelError, match="BadRequestError: 400"):
            await answer_of(provider)
    assert len(service.requests) == 2


async def test_what_some_servers_leave_out_is_no_fault() -> None:
    """An event of a kind that is not known is none of ours."""
    spare = [
        said("message_start"),
        said("message_start", message=None),
        said("content_block_delta"),
        said("content_block_delta", delta=[]),
        said("content_block_delta", delta={"type": "text_delta"}),
        said("message_delta", delta=None),
        said("something_new", delta="lo"),
        "event: message_delta\ndata: null\n\n",
        "event: message_delta\ndata: {}\n\n",
    ]
    async with asked(Answer([*spare, text("Hi"), ended("end_turn"), STOP])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", {"output_tokens": 2})]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, {}),
        ("much", {}),
        ([USAGE], {}),
        ({"input_tokens": None, "output_tokens": "2"}, {"input_tokens": 0, "output_tokens": 0}),
    ],
    ids=["null", "a text", "a list", "no numbers"],
)
async def test_usage_is_never_the_price_of_an_answer(usage: Any, counts: dict[str, int]) -> None:
    start = said("message_start", message={**MESSAGE, "usage": usage})
    end = said("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    async with asked(Answer([start, text("Hi"), end, STOP])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", counts)]


async def test_what_comes_from_a_cache_and_what_goes_to_one_is_part_of_the_question() -> None:
    cached = {"input_tokens": 3, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 500, "output_tokens": 1}
    start = said("message_start", message={**MESSAGE, "usage": cached})
    async with asked(Answer([start, text("Hi"), ended("end_turn"), STOP])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", {"input_tokens": 543, "output_tokens": 2})]


async def test_an_answer_without_usage_is_one() -> None:
    start, end = said("message_start", message={"id": "m"}), said("message_delta", delta={"stop_reason": "end_turn"})
    async with asked(Answer([start, text("Hi"), end, STOP])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end")]


async def test_of_a_list_of_parts_the_texts_and_the_thoughts_come_in_order() -> None:
    thought = {"type": "thinking", "thinking": "Hm."}
    parts = [thought, {"type": "text", "text": "Hel"}, {"type": "redacted_thinking", "data": "aGk="}, {"text": "lo"}]
    async with asked(Answer([START, text([thought]), text(parts), ended("end_turn"), STOP])) as (provider, _):
        pieces = [piece async for piece in provider.stream(QUESTION, ASKER)]
    assert pieces[:-1] == [Reasoning("Hm."), Reasoning("Hm."), "Hel", "lo"]


@pytest.mark.parametrize("reason", ["pause_turn", 7, {"type": "end_turn"}, ["end_turn"]])
async def test_an_ending_that_is_not_known_is_no_success(reason: Any) -> None:
    end = said("message_delta", delta={"stop_reason": reason})
    async with asked(Answer([text("Hi"), end, STOP])) as (provider, _):
        with pytest.raises(ModelError, match=r"in a way that is not known: .*(pause|7|end_turn)"):
            await answer_of(provider)


async def test_an_answer_whose_connection_breaks_after_its_end_is_whole() -> None:
    async with asked(Answer([START, text("Hi"), ended("end_turn")], whole=False)) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


async def test_an_answer_in_one_piece_is_an_answer() -> None:
    """Some gateways don't stream, whatever they are asked for."""
    parts = [{"type": "thinking", "thinking": "Hm.", "signature": "aGk="}, {"type": "text", "text": "Hello"}]
    whole = MESSAGE | {"content": parts, "stop_reason": "end_turn"}
    async with asked(Answer.problem(200, whole)) as (provider, _):
        finish = Finish("end", {"input_tokens": 3, "output_tokens": 1})
        assert await answer_of(provider) == [Reasoning("Hm."), "Hello", finish]


async def test_a_page_in_place_of_an_answer_is_said_without_the_key() -> None:
    page = Answer([f"<html><b>Sign in</b>, {KEY}"], headers={"Content-Type": "Text/HTML"})
    async with asked(page) as (provider, _):
        with pytest.raises(ModelError, match=r"no JSON: Sign in , \*\*\*$"):
            await answer_of(provider)


async def test_parameters_of_the_settings_are_sent() -> None:
    async with asked(HELLO, MODEL_EXTRA={"top_k": 5}) as (provider, service):
        await answer_of(provider)
    assert service.requests[0].body["top_k"] == 5


def sent(data: str) -> str:
    return f"event: content_block_delta\ndata: {data}\n\n"


UNREADABLE = {
    "a number as the text": (text(1.50), "text is of the type float"),
    "zero as the text": (text(0), "text is of the type int"),
    "an object as the text": (text({"text": "lo"}), "text is of the type dict"),
    "a number in a part": (text([{"type": "text", "text": 7}]), "text is of the type int"),
    "a text as a part": (text(["lo"]), "a part of text is of the type str"),
    "a text as the delta": (said("content_block_delta", delta="lo"), "delta is of the type str"),
    "a text as the last delta": (said("message_delta", delta="lo"), "delta is of the type str"),
    "a text as the message": (said("message_start", message="lo"), "message is of the type str"),
    "a text as an event": (sent('"lo"'), "an event is of the type str"),
    "half an event": (sent('{"type": "content_block_delta", "delta": {"text": "lo"'), "JSONDecodeError: "),
    "no end to its depth": (sent("[" * 100_000), "RecursionError: "),
    "no UTF-8": (sent('"-"').encode().replace(b"-", b"\xff"), "UnicodeDecodeError: "),
}


@pytest.mark.parametrize(("odd", "says"), UNREADABLE.values(), ids=UNREADABLE)
async def test_what_may_be_a_piece_of_the_answer_and_cannot_be_read_is_an_error(odd: str | bytes, says: str) -> None:
    """Its one line says where, and shows nothing of the answer."""
    pieces = []
    async with asked(Answer([START, text("Hel"), odd, ended("end_turn"), STOP])) as (provider, service):
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
    async with asked(Answer([START, text("Hel"), text(7), STOP])) as (provider, _):
        app = build(settings, provider)
        async with (
            app.router.lifespan_context(app) as state,
            exchange(app, "/chat/stream", body={"question": "Hi"}, **state) as stream,  # type: ignore[arg-type]
        ):
            _, token, error, done = parse(await stream.rest())
    assert (token.data["text"], error.data["code"], done.data["reason"]) == ("Hel", "model_error", "error")
    assert "the model failed: the answer can't be read: text is of the type int" in caplog.text
    assert "Traceback" not in caplog.text


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
        Answer([START, text("Hel"), said("error", error={"type": "overloaded_error", "message": "busy"})]),
        Answer([START, text("Hel")], whole=False),
        Answer([START, text("Hel")]),
        Answer([START, text("Hel"), STOP]),
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
    ("error", "says"),
    [
        (said("error", error={"type": "overloaded_error", "message": f"busy, {KEY}"}), r'"busy, \*\*\*"'),
        (said("error", error=7), '"error":7'),
        ("event: error\ndata: busy\n\n", "busy"),
    ],
    ids=["a message", "a number", "no JSON"],
)
async def test_an_error_amid_the_answer_is_said_in_the_services_words(error: str, says: str) -> None:
    async with asked(Answer([START, text("Hel"), error])) as (provider, _):
        with pytest.raises(ModelError, match=f"^the answer broke off: .*{says}") as raised:
            await answer_of(provider)
    assert raised.value.retryable


async def test_an_error_whose_connection_is_cut_is_said_all_the_same() -> None:
    error = said("error", error={"type": "overloaded_error", "message": "busy"})
    async with asked(Answer([START, text("Hel"), error], whole=False)) as (provider, _):
        with pytest.raises(ModelError, match="overloaded_error") as raised:
            await answer_of(provider)
    assert raised.value.code == "model_busy"


async def test_events_without_a_name_are_read_by_their_type() -> None:
    """Some proxies pass on nothing but lines of data (openclaw pull request 37607)."""
    pieces = [
        piece.partition("\n")[2] for piece in (START, text("Hel"), said("ping"), text("lo"), ended("end_turn"), STOP)
    ]
    async with asked(Answer(pieces)) as (provider, _):
        assert await answer_of(provider) == ["Hel", "lo", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


@pytest.mark.parametrize("last", ["data: [DONE]\n\n", "event: done\ndata: [DONE]\n\n"], ids=["bare", "named"])
async def test_the_last_word_of_another_dialect_spoils_no_answer(last: str) -> None:
    """Gateways and proxies send it (pi issue 3708)."""
    async with asked(Answer([START, text("Hi"), ended("end_turn"), STOP, last])) as (provider, _):
        assert await answer_of(provider) == ["Hi", Finish("end", {"input_tokens": 3, "output_tokens": 2})]


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
    async with Anthropic(settings) as provider:
        with pytest.raises(ModelError, match=r"APIConnectionError: .*\(ConnectError: .*\), asked at 127\.0\.0\.1:\d+"):
            await answer_of(provider)


def test_without_a_key_the_start_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_PROVIDER", raising=False)
    with pytest.raises(SystemExit, match=r"(?m)^ANTHROPIC_API_KEY: must be set; MODEL_PROVIDER=echo runs without one$"):
        ProviderSettings.read()
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    assert ProviderSettings.read().model_provider == "echo"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"MODEL_THINKING_TOKENS": "-1"}, "MODEL_THINKING_TOKENS: Input should be greater than or equal to 0"),
        ({"MODEL_THINKING_TOKENS": "1023"}, "MODEL_THINKING_TOKENS: must be 0, or 1024 or more, and less than"),
        ({"MODEL_THINKING_TOKENS": "4096"}, "MODEL_THINKING_TOKENS: must be 0, or 1024 or more, and less than"),
        ({"MODEL_TEMPERATURE": "0.5"}, "MODEL_TEMPERATURE: must be empty, or 1, where MODEL_THINKING_TOKENS is set"),
        ({"MODEL_EXTRA": '{"top_k": 5}'}, "MODEL_EXTRA: must be without top_k where MODEL_THINKING_TOKENS is set"),
        ({"MODEL_EXTRA": '{"temperature": 0}'}, "MODEL_EXTRA: must be without temperature where"),
        ({"MODEL_EXTRA": '{"thinking": {}}'}, "MODEL_EXTRA: must be without thinking where"),
        ({"MODEL_EXTRA": '{"top_p": 0.9}'}, "MODEL_EXTRA: top_p must be 0.95 to 1 where MODEL_THINKING_TOKENS is set"),
        ({"MODEL_EXTRA": '{"top_p": "1"}'}, "MODEL_EXTRA: top_p must be 0.95 to 1 where MODEL_THINKING_TOKENS is set"),
    ],
)
def test_what_does_not_go_with_thinking_is_refused_by_name(
    settings: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"MODEL_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": KEY, "MODEL_THINKING_TOKENS": "1024", **settings}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"(?m)^{re.escape(says)}"):
        ProviderSettings.read()


@pytest.mark.parametrize(
    "settings",
    [
        {"MODEL_THINKING_TOKENS": "4095"},
        {"MODEL_TEMPERATURE": "1"},
        {"MODEL_EXTRA": '{"top_p": 0.95, "output_config": {"effort": "low"}}'},
    ],
    ids=str,
)
def test_what_goes_with_thinking_is_taken(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"MODEL_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": KEY, "MODEL_THINKING_TOKENS": "1024", **settings}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ProviderSettings.read().model_thinking_tokens >= 1024


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?v=2", "https://host/v1#", "host/v1"])
def test_a_base_url_that_no_path_can_follow_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    with pytest.raises(SystemExit, match=r"(?m)^ANTHROPIC_BASE_URL: ") as refused:
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
        "for its first token": Answer([START, never]),
        "for the next": Answer([START, text("Hel"), never]),
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
    answer = Answer([START, text(f"{KEY} Hel"), ended("end_turn"), STOP])
    async with asked(BROKEN, answer, Answer.problem(400, {"error": {"message": "-"}})) as (provider, service):
        assert f"{KEY} Hel" in await answer_of(provider, [Message(role="user", content=f"Who is {KEY}?")])
        with pytest.raises(ModelError):
            await answer_of(provider, [Message(role="user", content=f"Who is {KEY}?")])
    assert len(service.requests) == 3
    assert written.getvalue() == ""

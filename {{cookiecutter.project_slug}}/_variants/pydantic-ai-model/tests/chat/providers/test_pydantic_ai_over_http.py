"""The agent in front of a service on real sockets, which says what one with OpenAI's API would say."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import telemetry
from app.chat.agent import INSTRUCTIONS, agent
from app.chat.answer_settings import AnswerSettings
from app.chat.providers import open_provider
from app.chat.providers.base import Finish, ModelError, Provider
from app.chat.providers.settings import ProviderSettings
from app.settings import Settings
from app.streams.events import Reasoning, Tool
from tests.closing import WHY, sees_it_closed
from tests.scripted_agent import ANYTHING, ASKER, QUESTION
from tests.upstream import Answer, Upstream, upstream

KEY = "sk-hidden-0123456789"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


def chunk(text: str | None = None, finish: str | None = None, **delta: Any) -> str:
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}
    return data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def call(arguments: str, **named: Any) -> str:
    """A piece of it; the first has its id and its name."""
    return chunk(tool_calls=[{"index": 0, "function": {"arguments": arguments, **named.pop("function", {})}, **named}])


def usage(took: int, made: int, reasoning: int = 0) -> str:
    counts = {"prompt_tokens": took, "completion_tokens": made, "total_tokens": took + made}
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    return data(
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [],
            "usage": {**counts, **details},
        }
    )


END = "data: [DONE]\n\n"
CALLS = Answer(
    [
        chunk(reasoning_content="Twice 21"),
        chunk(reasoning_content="?"),
        call("", id="call-1", type="function", function={"name": "double"}),
        call('{"num'),
        call('ber": 21}'),
        chunk(finish="tool_calls"),
        usage(10, 5, 3),
        END,
    ]
)
HELLO = Answer([chunk("Hel"), chunk("lo"), chunk(finish="stop"), usage(20, 2), END])
LIMITED = Answer.problem(429, {"error": {"message": "slow down"}}, **{"Retry-After-Ms": "1"})


async def double(number: int) -> int:
    return 2 * number


@asynccontextmanager
async def asked(*answers: Answer, **settings: Any) -> AsyncIterator[tuple[Provider, Upstream]]:
    with pytest.MonkeyPatch.context() as patch:
        async with upstream(*answers) as service:
            patch.setenv("OPENAI_API_KEY", KEY)
            patch.setenv("OPENAI_BASE_URL", f"{service.url}/v1")
            told = {"model_provider": "pydantic-ai", "model_name": "openai-chat:m", **settings}
            with agent.override(tools=[double]):
                async with open_provider(ProviderSettings(_env_file=None, **told), ANYTHING) as provider:
                    yield provider, service


async def pieces_of(provider: Provider) -> list[Any]:
    return [piece async for piece in provider.stream(QUESTION, ASKER) if piece]


async def test_calls_that_come_in_pieces_are_made_and_what_they_give_goes_to_the_model() -> None:
    async with asked(CALLS, HELLO) as (provider, service):
        assert (provider.service, provider.model) == ("openai", "m")
        pieces = await pieces_of(provider)
    assert pieces == [
        Reasoning("Twice 21"),
        Reasoning("?"),
        Tool("call-1", "double", "called", input={"number": 21}),
        Tool("call-1", "double", "done", output=42),
        "Hel",
        "lo",
        Finish("end", {"input_tokens": 30, "output_tokens": 7, "reasoning_tokens": 3}),
    ]
    first, second = service.requests
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["double"]
    assert first.headers["authorization"] == f"Bearer {KEY}"
    result = second.body["messages"][-1]
    assert (result["role"], result["tool_call_id"], result["content"]) == ("tool", "call-1", "42")


async def test_half_of_a_character_is_mended_before_it_goes_back_to_the_service() -> None:
    """It comes by an escape of its own: in a thought, a text or what a tool is called with."""
    answer = Answer(
        [
            chunk(reasoning_content="Hm \ud83d"),
            chunk(reasoning_content="\ude00"),
            chunk("So \ud83d"),
            chunk("\ude00 \ud83d"),
            call('{"text": "Hey \ud83d', id="call-1", type="function", function={"name": "count"}),
            call('\ude00"}'),
            chunk(finish="tool_calls"),
            END,
        ]
    )

    async def count(text: str) -> int:
        return len(text)

    async with asked(answer, HELLO) as (provider, service):
        with agent.override(tools=[count]):
            pieces = await pieces_of(provider)
    assert Tool("call-1", "count", "done", output=5) in pieces
    said = service.requests[1].body["messages"][-2]
    assert (said["reasoning_content"], said["content"]) == ("Hm \U0001f600", "So \U0001f600 \ufffd")
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"text": "Hey \U0001f600"}


async def test_the_settings_go_along_with_each_request() -> None:
    settings = {"system_prompt": "Be brief.", "model_max_tokens": 7, "model_temperature": 0.5}
    async with asked(CALLS, HELLO, **settings, MODEL_EXTRA={"top_p": 0.9}) as (provider, service):
        await pieces_of(provider)
    for request in service.requests:
        body = request.body
        assert (body["model"], body["max_completion_tokens"], body["temperature"], body["top_p"]) == ("m", 7, 0.5, 0.9)
        instructions, question = body["messages"][:2]
        assert (instructions["role"], question["role"]) == ("system", "user")
        assert instructions["content"] == f"{INSTRUCTIONS}\n\nBe brief."


async def test_the_trace_goes_on_to_the_service_with_each_round_and_each_try() -> None:
    telemetry.join_trace(TRACEPARENT)
    async with asked(LIMITED, CALLS, HELLO) as (provider, service):
        await pieces_of(provider)
    telemetry.join_trace("")
    assert [request.headers["traceparent"] for request in service.requests] == [TRACEPARENT] * 3


@pytest.mark.parametrize(("said", "reason"), [("stop", "end"), ("length", "length"), ("content_filter", "refusal")])
async def test_how_it_finished_is_said_in_our_words(said: str, reason: str) -> None:
    async with asked(Answer([chunk("Hi"), chunk(finish=said), END])) as (provider, _):
        pieces = await pieces_of(provider)
    assert pieces == ["Hi", Finish(reason)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "code", "retryable", "says"),
    [
        (Answer.problem(401, {"error": f"no such\nkey: {KEY}"}), "model_unauthorized", False, r"401: .*\*\*\*"),
        (Answer.problem(404, {"error": "The model `m` does not exist"}), "model_not_found", False, "404: "),
        (Answer.problem(400, {"error": {"code": "context_length_exceeded"}}), "context_too_long", False, "400: "),
        (Answer.problem(400, {"error": {"message": "bad"}}), "model_error", False, "400: .*bad"),
        (Answer.problem(500, {"error": {"message": "out of memory"}}), "model_error", True, "500: .*out of memory"),
        (Answer.problem(503, {"error": {"message": "overloaded"}}), "model_busy", True, "503: .*overloaded"),
        (Answer(["<html><b>Bad</b> gateway"], 502, {"Content-Type": "text/html"}), "model_error", True, "502: .*Bad"),
        (Answer([chunk("Hel"), data({"error": {"message": "out of memory"}})]), "model_error", True, "out of memory"),
        (Answer([chunk("Hel")], whole=False), "model_error", True, r"\w+Error: "),
        (Answer([chunk("Hel")]), "model_error", True, "it ended without a reason"),
        (Answer([chunk("Hel"), END]), "model_error", True, "it ended without a reason"),
        (Answer([chunk("Hel"), "data: {\n\n"]), "model_error", True, r"\w+"),
    ],
    ids=[
        *("a wrong key", "no such model", "too long", "a wrong request", "a fault", "overloaded", "a page"),
        *("an error amid it", "the connection is lost", "no end", "no reason", "no JSON"),
    ],
)  # fmt: skip
async def test_what_fails_is_an_error_by_its_kind_in_a_line_without_the_key(
    answer: Answer, code: str, retryable: bool, says: str
) -> None:
    async with asked(answer, model_max_retries=0) as (provider, service):
        with pytest.raises(ModelError, match=says) as raised:
            await pieces_of(provider)
    assert (raised.value.code, raised.value.retryable) == (code, retryable)
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value)
    assert len(service.requests) == 1


async def test_a_busy_service_says_when_it_can_be_asked_again() -> None:
    async with asked(
        Answer.problem(429, {"error": {"message": "-"}}, **{"Retry-After": "20"}), model_max_retries=0
    ) as (
        provider,
        _,
    ):
        with pytest.raises(ModelError) as raised:
            await pieces_of(provider)
    assert (raised.value.code, raised.value.retry_after) == ("model_busy", 20)


async def test_it_is_asked_again_so_often_and_no_more() -> None:
    async with asked(LIMITED, LIMITED, HELLO, model_max_retries=2) as (provider, _):
        assert (await pieces_of(provider))[:-1] == ["Hel", "lo"]
    async with asked(LIMITED, LIMITED, HELLO, model_max_retries=1) as (provider, service):
        with pytest.raises(ModelError):
            await pieces_of(provider)
    assert len(service.requests) == 2


async def test_a_service_that_is_not_there_is_an_error() -> None:
    async with asked(model_max_retries=0) as (provider, service):
        service.close()
        with pytest.raises(ModelError, match=r"APIConnectionError: .*\(ConnectError: .*\), asked at 127\.0\.0\.1:\d+"):
            await pieces_of(provider)


@pytest.mark.parametrize("waits", ["for its first token", "for the next", "for the response", "in the second round"])
@pytest.mark.parametrize("why", WHY)
async def test_the_service_sees_its_connection_closed(
    why: str, waits: str, settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    """At once: what goes on being made is paid for."""
    never = asyncio.Event()
    answers = {
        "for its first token": [Answer([chunk(""), never])],
        "for the next": [Answer([chunk("Hel"), never])],
        "for the response": [Answer([never])],
        "in the second round": [CALLS, Answer([chunk("Hel"), never])],
    }[waits]
    await sees_it_closed(why, lambda: asked(*answers), settings, answer_settings)

"""The provider with a model that follows a script: what an agent does, as pieces of an answer."""

import asyncio
import io
import logging
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import ModelRetry, RunContext, ToolFailed
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    ThinkingPart,
    ThinkingPartDelta,
    ToolReturnPart,
)
from pydantic_ai.models.test import TestModel

from app import logs
from app.chat.agent import INSTRUCTIONS, agent
from app.chat.answer_settings import AnswerSettings
from app.chat.providers.base import Finish, Message, ModelError
from app.chat.providers.pieces import Pieces
from app.chat.providers.pydantic_ai import PydanticAI
from app.chat.providers.settings import ProviderSettings
from app.chat.room import chat
from app.errors import Conflict
from app.main import create_app
from app.settings import Settings
from app.streams.events import Reasoning, Tool
from tests.asgi import exchange
from tests.callers.knowing import ANYBODY
from tests.scripted_agent import ANYTHING, ASKER, QUESTION, Call, Ending, Thought, pieces_of, scripted
from tests.sse import parse

ENDED = "the cleanup has ended"


async def double(number: int) -> int:
    return 2 * number


def finish_of(pieces: list[Any]) -> Finish:
    assert isinstance(pieces[-1], Finish)
    return pieces[-1]


def texts(pieces: list[Any]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def told(messages: list[Any]) -> list[ToolReturnPart]:
    """What the model learns of its calls."""
    return [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]


async def test_an_answer_in_rounds_is_thoughts_texts_and_tools_in_their_order() -> None:
    rounds = [Thought("Hm."), "I look. ", Call("double", {"number": 21})], ["It is ", "42."]
    with scripted(*rounds, tools=[double]) as (provider, script):
        pieces = await pieces_of(provider)
    assert pieces[:-1] == [
        Reasoning("Hm."),
        "I look. ",
        Tool("c-1", "double", "called", input={"number": 21}),
        Tool("c-1", "double", "done", output=42),
        "\n\nIt is ",
        "42.",
    ]
    assert finish_of(pieces).reason == "end"
    assert [part.content for part in told(script.asked[1])] == [42]


@pytest.mark.parametrize("thought", [None, "", 7, ["hm"]], ids=repr)
def test_a_thought_that_is_no_text_is_left_out(thought: Any) -> None:
    """Pydantic AI passes on what a service sends, unread."""
    pieces = Pieces()
    assert pieces.of(PartStartEvent(index=0, part=ThinkingPart(thought))) == ""
    assert pieces.of(PartDeltaEvent(index=0, delta=ThinkingPartDelta(content_delta=thought))) == ""


async def test_calls_have_ids_of_their_own_though_a_service_counts_those_of_each_round_anew() -> None:
    """A client puts what comes of a call into the line that has its id."""
    rounds = [[Call("double", {"number": number}, "0")] for number in (1, 2)]
    with scripted(*rounds, ["Done."], tools=[double]) as (provider, _):
        pieces = await pieces_of(provider)
    assert pieces[:-2] == [
        Tool("0", "double", "called", input={"number": 1}),
        Tool("0", "double", "done", output=2),
        Tool("0-2", "double", "called", input={"number": 2}),
        Tool("0-2", "double", "done", output=4),
    ]


async def test_usage_is_that_of_all_rounds() -> None:
    with scripted([Call("double", {"number": 1})], ["Two."], tools=[double]) as (provider, _):
        two = finish_of(await pieces_of(provider)).usage
    with scripted(["Two."]) as (provider, _):
        one = finish_of(await pieces_of(provider)).usage
    assert two["input_tokens"] >= 2 * one["input_tokens"] > 0
    assert two["output_tokens"] > one["output_tokens"] > 0


async def test_what_instructs_the_model_comes_behind_the_agents_own_instructions() -> None:
    history = [Message(role="user", content="one"), Message(role="assistant", content="two"), *QUESTION]
    messages = [Message(role="system", content="In English."), *history]
    with scripted(["Hello"], system_prompt="Be brief.", model_temperature=0.5) as (provider, script):
        await pieces_of(provider, messages)
    first, second, third = script.asked[0]
    assert [type(message) for message in script.asked[0]] == [ModelRequest, ModelResponse, ModelRequest]
    assert [message.parts[0].content for message in (first, second, third)] == ["one", "two", "Hi"]  # type: ignore[union-attr]
    instructions, settings = script.told[0].instructions, script.told[0].model_settings
    assert instructions == f"{INSTRUCTIONS}\n\nBe brief.\n\nIn English."
    assert settings is not None
    assert (settings["temperature"], settings["max_tokens"], settings["max_retries"]) == (0.5, 4096, 2)


async def test_two_tools_of_one_round_run_at_once() -> None:
    both = asyncio.Barrier(2)

    async def meet(who: str) -> str:
        await both.wait()
        return f"{who} was there"

    calls = [Call("meet", {"who": "A"}, "a"), Call("meet", {"who": "B"}, "b")]
    with scripted(calls, ["Done."], tools=[meet]) as (provider, script):
        pieces = await pieces_of(provider)
    assert {(each.id, each.output) for each in pieces if isinstance(each, Tool) and each.state == "done"} == {
        ("a", "A was there"),
        ("b", "B was there"),
    }
    assert len(told(script.asked[1])) == 2


class Parcel(BaseModel):
    sent: datetime
    weight: float


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("text", "text"),
        (None, None),
        ([1, {"a": None}], [1, {"a": None}]),
        (
            Parcel(sent=datetime(2026, 11, 30, tzinfo=UTC), weight=0.5),
            {"sent": "2026-11-30T00:00:00Z", "weight": 0.5},
        ),
    ],
    ids=["a text", "nothing", "JSON", "a model of Pydantic"],
)
async def test_what_a_tool_returns_is_shown_as_json(given: Any, shown: Any) -> None:
    async def find() -> Any:
        return given

    with scripted([Call("find", {})], ["Done."], tools=[find]) as (provider, _):
        pieces = await pieces_of(provider)
    assert Tool("c-1", "find", "done", output=shown) in pieces


HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize("given", [HOLDS_ITSELF, object(), "\ud800"], ids=["holds itself", "no JSON", "half a pair"])
async def test_a_tool_that_gives_what_no_model_can_be_told_has_failed(given: Any) -> None:
    async def find() -> Any:
        return given

    with scripted([Call("find", {})], ["I can't."], tools=[find]) as (provider, script):
        pieces = await pieces_of(provider)
    assert pieces[1:-1] == [Tool("c-1", "find", "failed", output="The tool failed."), "I can't."]
    assert [part.content for part in told(script.asked[1])] == ["The tool failed."]


async def test_a_tool_that_raises_has_failed_and_the_model_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the model nor a reader learns the exception; the log has it."""

    async def find() -> None:
        raise KeyError("the secret of the tool")

    with scripted([Call("find", {})], ["I can't."], tools=[find]) as (provider, script):
        pieces = await pieces_of(provider)
    assert pieces[1:-1] == [Tool("c-1", "find", "failed", output="The tool failed."), "I can't."]
    assert [(part.content, part.outcome) for part in told(script.asked[1])] == [("The tool failed.", "failed")]
    (record,) = (each for each in caplog.records if each.message == "a tool failed")
    assert record.tool == "find"  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert "the secret of the tool" in str(record.exc_info[1])


@pytest.mark.parametrize(
    "error",
    [ToolFailed("There is none."), ModelRetry("There is none."), Conflict("There is none.")],
    ids=lambda e: type(e).__name__,
)
async def test_a_tool_may_say_why_it_has_failed(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def find() -> None:
        raise error

    with scripted([Call("find", {})], ["I can't."], tools=[find]) as (provider, script):
        pieces = await pieces_of(provider)
    assert pieces[1:-1] == [Tool("c-1", "find", "failed", output="There is none."), "I can't."]
    assert [part.content for part in told(script.asked[1])] == ["There is none."]
    assert "Traceback" not in caplog.text


async def cancelled_elsewhere() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def exits() -> None:
    sys.exit(3)


async def cancels() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("tool", [exits, cancels, cancelled_elsewhere], ids=lambda tool: tool.__name__)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
async def test_a_tool_that_exits_or_is_cancelled_by_its_own_doing_has_failed(
    tool: Callable[..., Any], beside: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [Call(tool.__name__, {}), *([Call("double", {"number": 1}, "c-2")] if beside else [])]
    with scripted(calls, ["I can't."], tools=[tool, double]) as (provider, script):
        pieces = await pieces_of(provider)
    assert Tool("c-1", tool.__name__, "failed", output="The tool failed.") in pieces
    assert (Tool("c-2", "double", "done", output=2) in pieces) == beside
    assert texts(pieces) == "I can't."
    assert [part.content for part in told(script.asked[1])] == ["The tool failed.", 2][: 1 + beside]
    assert "a tool failed" in caplog.messages


@pytest.mark.parametrize(
    ("name", "arguments", "shown", "says"),
    [
        ("double", {"number": "x"}, {"number": "x"}, "arguments that do not fit"),
        ("double", {}, {}, "arguments that do not fit"),
        ("double", '{"number": ', {"INVALID_JSON": '{"number": '}, "arguments that do not fit"),
        ("halve", {"number": 2}, {"number": 2}, "Unknown tool name: 'halve'"),
    ],
    ids=["a wrong one", "one too few", "no JSON", "no such tool"],
)
async def test_a_call_that_is_wrong_has_failed_however_often(name: str, arguments: Any, shown: Any, says: str) -> None:
    wrong = [Call(name, arguments)]
    with scripted(wrong, wrong, wrong, ["I can't."], tools=[double]) as (provider, script):
        *pieces, text, _ = await pieces_of(provider)
    assert pieces[::2] == [Tool(each, name, "called", input=shown) for each in ("c-1", "c-1-2", "c-1-3")]
    for piece in pieces[1::2]:
        assert isinstance(piece, Tool)
        assert (piece.state, says in piece.output) == ("failed", True)
    assert text == "I can't."
    assert len(script.asked) == 4


async def test_past_the_limit_of_rounds_the_answer_ends_as_length() -> None:
    again = ["Once more. ", Call("double", {"number": 1})]
    with scripted(again, again, again, tools=[double], model_max_rounds=2) as (provider, script):
        pieces = await pieces_of(provider)
    assert texts(pieces) == "Once more. \n\nOnce more. "
    assert finish_of(pieces).reason == "length"
    assert finish_of(pieces).usage["output_tokens"] > 0
    assert len(script.asked) == 2


@pytest.mark.parametrize("tool", ["double", "unknown"])
async def test_past_the_limit_of_calls_none_of_that_round_is_run_and_the_answer_ends_as_length(tool: str) -> None:
    """Else a model that asks for a thousand of them at once would get them all."""
    two = [Call("double", {"number": 1}, "a"), Call("double", {"number": 2}, "b")]
    more = ["More. ", *(Call(tool, {"number": number}, f"{number}") for number in range(1000))]
    with scripted(two, more, tools=[double], model_max_tool_calls=1001) as (provider, script):
        pieces = await pieces_of(provider)
    assert [piece.id for piece in pieces if isinstance(piece, Tool)] == ["a", "b", "a", "b"]
    assert texts(pieces) == "More. "
    assert finish_of(pieces).reason == "length"
    assert len(script.asked) == 2


async def test_a_tool_that_is_too_slow_has_failed_once_its_cleanup_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0.001)
            ended.append(ENDED)

    with scripted([Call("wait", {})], ["I can't."], tools=[wait], tool_timeout_seconds=0.05) as (provider, script):
        pieces = await pieces_of(provider)
    assert pieces[1:-1] == [Tool("c-1", "wait", "failed", output="It took longer than 0.05 s."), "I can't."]
    assert [part.outcome for part in told(script.asked[1])] == ["failed"]
    assert ended == [ENDED]
    assert "a tool was too slow" in caplog.text


async def test_a_time_out_of_a_tools_own_is_a_failure_like_any_other() -> None:
    async def find() -> None:
        raise TimeoutError("of its own")

    with scripted([Call("find", {})], ["I can't."], tools=[find]) as (provider, _):
        pieces = await pieces_of(provider)
    assert pieces[1] == Tool("c-1", "find", "failed", output="The tool failed.")


async def test_while_a_tool_runs_there_are_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.chat.providers.tools.SIGN_SECONDS", 0.001)
    seen = asyncio.Event()

    async def wait() -> str:
        await seen.wait()
        return "It was seen."

    signs = 0
    with scripted([Call("wait", {})], ["Done."], tools=[wait]) as (provider, _):
        async with aclosing(provider.stream(QUESTION, ASKER)) as pieces:
            called = False
            async for piece in pieces:
                called = called or isinstance(piece, Tool)
                signs += called and piece == ""
                if signs == 3:
                    seen.set()
    assert signs > 3


async def test_to_close_it_amid_a_tool_cancels_that_once_and_awaits_its_cleanup() -> None:
    began, ended, cancelled = asyncio.Event(), list[str](), 0

    async def wait() -> None:
        nonlocal cancelled
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    cancelled += 1
            ended.append(ENDED)

    async def read() -> None:
        async with aclosing(provider.stream(QUESTION, ASKER)) as pieces:
            async for _ in pieces:
                pass

    calls = [Call("wait", {}, "a"), Call("wait", {}, "b")]
    with scripted(calls, ["Done."], tools=[wait]) as (provider, script):
        reading = asyncio.create_task(read())
        await asyncio.wait_for(began.wait(), 60)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert (ended, cancelled) == ([ENDED, ENDED], 0)
    assert len(script.asked) == 1


async def test_a_cleanup_is_not_cut_by_the_time_limit_of_its_tool() -> None:
    """It has been cancelled already, with its answer."""
    began, ended, seconds = asyncio.Event(), asyncio.Event(), 1.0

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.2 * seconds)
            ended.set()

    with scripted([Call("wait", {})], tools=[wait], tool_timeout_seconds=seconds) as (provider, _):
        reading = asyncio.create_task(pieces_of(provider))
        await asyncio.wait_for(began.wait(), 60)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert ended.is_set()


async def test_to_close_it_between_two_pieces_ends_what_runs() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            ended.append(ENDED)

    calls = [Call("wait", {}, "a"), Call("double", {"number": 1}, "b")]
    with scripted(calls, ["Done."], tools=[wait, double]) as (provider, script):
        async with aclosing(provider.stream(QUESTION, ASKER)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Tool) and piece.state == "done":
                    break
    assert ended == [ENDED]
    assert len(script.asked) == 1


@pytest.mark.parametrize("why", ["the reader leaves", "a reader stops it", "the server stops"])
async def test_a_tool_ends_with_its_answer(
    why: str, settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    limited = settings.model_copy(update={"drain_seconds": 0.1})
    with scripted(["I look.", Call("wait", {})], tools=[wait]) as (provider, _):
        app = create_app(limited, [chat(provider, answer_settings(answer_grace_seconds=0))], ANYBODY)
        async with (
            app.router.lifespan_context(app) as state,
            exchange(app, "/chat/stream", body={"question": "Hi"}, **state) as stream,  # type: ignore[arg-type]
        ):
            await asyncio.wait_for(began.wait(), 60)
            if why == "the reader leaves":
                stream.gone.set()
            elif why == "the server stops":
                state["shutdown"].begin()  # type: ignore[index]
            else:
                async with exchange(app, stream.headers["location"], method="DELETE", **state) as stop:  # type: ignore[arg-type]
                    assert stop.status == 202
            await asyncio.wait_for(ended.wait(), 60)
            if why == "a reader stops it":
                *events, done = parse(await stream.rest())
                assert [event.name for event in events] == ["status", "token", "tool"]
                assert done.data == {"reason": "cancelled"}


async def test_an_agent_that_says_nothing_is_an_error_that_a_retry_may_mend() -> None:
    says = r"^UnexpectedModelBehavior: Exceeded maximum output retries"
    with scripted([""], [""]) as (provider, _), pytest.raises(ModelError, match=says) as raised:
        await pieces_of(provider)
    assert raised.value.retryable


async def test_a_model_that_calls_its_tools_and_ends_is_understood() -> None:
    """Pydantic AI's own for tests calls each tool once, and says what they gave."""
    model = Ending(TestModel())
    with agent.override(tools=[double]):
        provider = PydanticAI(ProviderSettings(_env_file=None, model_provider="echo"), model, ANYTHING)
        *pieces, finish = await pieces_of(provider)
    assert [piece.state for piece in pieces if isinstance(piece, Tool)] == ["called", "done"]
    assert texts(pieces) == '{"double":0}'
    assert finish_of([finish]).reason == "end"
    assert (provider.service, provider.model) == ("test", "test")


async def test_a_tool_has_what_its_dependencies_say() -> None:
    async def who(context: RunContext[Any]) -> str:
        return f"{context.deps.caller}, {len(context.deps.keys.current)}"

    with scripted([Call("who", {})], ["Done."], tools=[who]) as (provider, _):
        pieces = await pieces_of(provider)
    assert Tool("c-1", "who", "done", output="me, 64") in pieces


async def test_at_the_level_debug_the_log_has_no_question_no_answer_and_no_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("app"), "level", logging.NOTSET)
    logs.set_up("DEBUG", "json")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written := io.StringIO())
    with scripted(["I look. ", Call("double", {"number": 21})], ["42"], tools=[double]) as (provider, _):
        await pieces_of(provider)
    assert written.getvalue() == ""

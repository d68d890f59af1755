import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

import pytest

from app.chat.generation import Generation
from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.logs import request_id
from app.streams.events import Busy, Done, Error, Event, KeepAlive, Reasoning, Status, StreamFault, Token, Tool
from app.streams.log import MemoryLog
from app.streams.source import Run
from tests.providers import ScriptedProvider

QUESTION = [Message(role="user", content="?")]


def generation_of(*script: object, seconds: float = 5, max_chars: int = 100) -> Generation:
    return Generation(ScriptedProvider(*script), QUESTION, caller="alice", seconds=seconds, max_chars=max_chars)


async def ran(generation: Generation) -> list[Event]:
    """All of its events, as a log gets them."""
    log = MemoryLog()
    await Run(generation.events(), log, generation.time_left).closed
    return list(await log.after(0, 0) or [])


async def events_of(*script: object, max_chars: int = 100) -> list[Event]:
    """All but the status, which is the first."""
    generation = generation_of(*script, max_chars=max_chars)
    status, *events = [event async for event in generation.events()]
    assert status == Status("thinking", generation.id)
    return events


async def test_the_pieces_become_tokens_between_status_and_done() -> None:
    assert await events_of("a", " b") == [Token("a"), Token(" b"), Done("end")]


async def test_the_status_comes_before_the_model_is_asked() -> None:
    provider = ScriptedProvider("a")
    generation = Generation(provider, QUESTION, caller="alice", seconds=5, max_chars=9)
    async with aclosing(generation.events()) as events:
        assert await anext(events) == Status("thinking", generation.id)
        assert provider.asked == []
        await anext(events)
        assert provider.asked == [QUESTION]


@pytest.mark.parametrize("script", [(), ("", "")])
async def test_a_model_that_ends_without_a_word_has_failed(script: tuple[str, ...]) -> None:
    with pytest.raises(StreamFault) as raised:
        await events_of(*script)
    assert raised.value.error.code == "model_error"


async def test_a_model_may_say_that_no_word_was_its_answer() -> None:
    assert await events_of(Finish("refusal")) == [Done("refusal")]


@pytest.mark.parametrize("reason", ["end", "length", "refusal"])
async def test_the_model_may_say_how_it_finished(reason: str) -> None:
    assert (await events_of("a", Finish(reason)))[-1] == Done(reason)  # type: ignore[arg-type]


async def test_an_answer_past_the_limit_is_cut_there() -> None:
    assert (await events_of("abc", "def", max_chars=4)) == [Token("abc"), Token("d"), Done("length")]


async def test_an_answer_that_reaches_the_limit_exactly_is_whole() -> None:
    assert (await events_of("abcd", max_chars=4)) == [Token("abcd"), Done("end")]


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        (RuntimeError("the secret"), "model_error", "error"),
        (17, "model_error", "error"),
        (TimeoutError("its own"), "model_error", "error"),
        (SystemExit(3), "model_error", "error"),
        (KeyboardInterrupt(), "model_error", "error"),
        (GeneratorExit(), "model_error", "error"),
        (asyncio.CancelledError(), "model_error", "error"),
        (5.0, "model_timeout", "timeout"),
    ],
)
@pytest.mark.parametrize("before", [[], ["a"], ["a", "b"]])
async def test_tokens_made_before_a_fault_are_kept_and_it_is_named(
    fault: object, code: str, reason: str, before: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    request_id.set("r-1")
    generation = generation_of(*before, fault, seconds=0.2 if reason == "timeout" else 60)
    *seen, error, done = await ran(generation)
    assert seen == [Status("thinking", generation.id), *map(Token, before)]
    assert isinstance(error, Error)
    assert (error.code, done) == (code, Done(reason))
    assert generation.reason == reason
    assert error.request_id == "r-1"
    assert "secret" not in error.message
    assert caplog.records[-1].levelno == logging.ERROR


async def test_a_model_that_neither_ends_when_it_is_cancelled_nor_closes_is_left_behind(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader is told in time."""
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", 0.02)

    class Deaf(ScriptedProvider):
        async def stream(self, messages, asker):  # type: ignore[no-untyped-def]
            for _ in range(2):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
            yield "too late"

    *_, error, done = await asyncio.wait_for(
        ran(Generation(Deaf(), QUESTION, caller="alice", seconds=0.02, max_chars=9)), 5
    )
    assert isinstance(error, Error)
    assert (error.code, done) == ("model_timeout", Done("timeout"))
    assert "the model has said nothing for 0.02 s" in caplog.text
    assert "has not closed in 0.02 s: it is left behind" in caplog.text


@pytest.mark.parametrize("last", ["too long", Finish("length")])
async def test_an_answer_that_is_whole_stays_whole_though_its_model_does_not_close(
    last: str | Finish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.streams.source.CLEANUP_SECONDS", 0.02)

    class Hangs(ScriptedProvider):
        async def stream(self, messages, asker):  # type: ignore[no-untyped-def]
            try:
                yield "a"
                yield last
            finally:
                await asyncio.sleep(60)

    events = await asyncio.wait_for(ran(Generation(Hangs(), QUESTION, caller="alice", seconds=0.01, max_chars=2)), 10)
    assert events[-1] == Done("length")
    assert "it is left behind" in caplog.text


async def test_the_time_a_reader_takes_is_not_the_models() -> None:
    generation = generation_of("a", "b", seconds=0.05)
    async with aclosing(generation.events()) as events:
        await anext(events)
        await anext(events)
        await asyncio.sleep(0.1)
        assert generation.time_left() == 0.05
        assert await anext(events) == Token("b")


async def test_a_model_that_shows_signs_of_life_has_time() -> None:
    thinking = [step for _ in range(12) for step in (0.05, "")]
    generation = generation_of(*thinking, "a", seconds=0.5)
    assert (await ran(generation))[1:] == [Token("a"), Done("end")]


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_failure_that_the_service_tells_of_is_a_line_in_the_log(
    retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StreamFault) as raised:
        await events_of(ModelError("the cause", retryable))
    assert (raised.value.error.code, raised.value.error.retryable) == ("model_error", retryable)
    assert "cause" not in raised.value.error.message
    assert caplog.messages == ["the model failed: the cause"]
    assert caplog.records[0].exc_info is None


async def test_a_failure_may_say_more_to_the_reader() -> None:
    with pytest.raises(StreamFault) as raised:
        await events_of(ModelError("the cause", True, "model_busy", "The model is busy.", retry_after=20))
    assert raised.value.error == Busy("model_busy", "The model is busy.", True, "-", 20)


async def test_how_it_ended_and_what_it_took_is_kept() -> None:
    generation = generation_of("a", Finish("length", {"output_tokens": 1}))
    assert [event async for event in generation.events()][-1] == Done("length")
    assert (generation.reason, generation.usage) == ("length", {"output_tokens": 1})


async def test_the_model_is_closed_when_nobody_reads_on() -> None:
    provider = ScriptedProvider("a", asyncio.Event())
    generation = Generation(provider, QUESTION, caller="alice", seconds=5, max_chars=9)
    async with aclosing(generation.events()) as events:
        await anext(events)
        await anext(events)
        assert not provider.closed.is_set()
    assert provider.closed.is_set()
    assert generation.reason == "cancelled"


@dataclass
class Searched(Event):
    event_type = "searched"
    query: str


async def test_an_event_of_the_providers_own_is_passed_on_as_it_is() -> None:
    assert await events_of("a", Searched("tea"), "b") == [Token("a"), Searched("tea"), Token("b"), Done("end")]


async def test_what_a_model_thinks_and_its_tools_come_between_its_words() -> None:
    called, done = Tool("1", "find", "called", {"query": "tea"}), Tool("1", "find", "done", output=[{"shop": "green"}])
    script = [Reasoning("hm"), "a", called, done, Reasoning("so"), "b"]
    generation = generation_of(*script)
    _, *events = [event async for event in generation.events()]
    assert events == [Reasoning("hm"), Token("a"), called, done, Reasoning("so"), Token("b"), Done("end")]
    assert generation.text == "ab"
    assert generation.told.first_piece is not None


async def test_hidden_reasoning_is_a_sign_of_life_and_nothing_else() -> None:
    provider = ScriptedProvider(*[0.2, Reasoning("hm")] * 4, "a", Tool("1", "find", "called"))
    generation = Generation(provider, QUESTION, caller="alice", seconds=0.6, max_chars=99, show_reasoning=False)
    assert (await ran(generation))[1:] == [Token("a"), Tool("1", "find", "called"), Done("end")]


async def test_hidden_reasoning_that_never_waits_lets_others_run() -> None:
    provider = ScriptedProvider(*[Reasoning("hm")] * 100_000, "a")
    generation = Generation(provider, QUESTION, caller="alice", seconds=5, max_chars=200_000, show_reasoning=False)
    run = asyncio.create_task(ran(generation))
    await asyncio.sleep(0)
    assert not run.done()
    await run


async def test_hidden_reasoning_has_an_end_as_well() -> None:
    provider = ScriptedProvider(Reasoning("1234"), "a", Reasoning("5"), "never")
    generation = Generation(provider, QUESTION, caller="alice", seconds=5, max_chars=4, show_reasoning=False)
    assert (await ran(generation))[1:] == [Token("a"), Done("length")]
    assert generation.reason == "length"


async def test_reasoning_has_as_many_characters_as_the_text_and_no_more() -> None:
    """Those of the text are not less for it."""
    assert await events_of(Reasoning("123"), "abcd", Reasoning("45"), "never", max_chars=4) == [
        Reasoning("123"),
        Token("abcd"),
        Reasoning("4"),
        Done("length"),
    ]


async def test_what_tools_take_and_give_is_cut_past_as_many_and_the_answer_goes_on() -> None:
    """A text that is cut says how long it is."""
    called, done = Tool("1", "find", "called", "x" * 6), Tool("1", "find", "done", output="y" * 6)
    assert await events_of(called, done, called, "a", Finish(), max_chars=20) == [
        called,
        done,
        called,
        Token("a"),
        Done("end"),
    ]
    assert await events_of(called, done, called, "a", Finish(), max_chars=15) == [
        called,
        done,
        Tool("1", "find", "called", "xxx… (cut: 3 of 6 bytes)"),
        Token("a"),
        Done("end"),
    ]


async def test_calls_of_tools_without_end_are_too_long() -> None:
    called = Tool("1", "x" * 4999, "called")
    assert await events_of(*[called] * 100) == [*[called] * 20, Done("length")]


async def test_an_answer_that_must_be_short_may_use_tools() -> None:
    called, done = Tool("call-1", "look_up", "called"), Tool("call-1", "look_up", "done", output=1)
    assert await events_of(called, done, "a", Finish(), max_chars=1) == [called, done, Token("a"), Done("end")]


class NoText:
    def __repr__(self) -> str:
        raise OSError


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"a": [1, None, "\u00e9"]}, {"a": [1, None, "\u00e9"]}),
        ({"\ud800": ["\ud83d\ude00", "x\udc00"]}, {"\ufffd": ["\U0001f600", "x\ufffd"]}),
        (["\ud800", 10**5000], "(list that has no text)"),
        (["\ud800", float("nan")], "['\\ud800', nan]"),
        ({1: "a key is text"}, {"1": "a key is text"}),
        (datetime(2026, 1, 2), "2026-01-02 00:00:00"),
        (float("nan"), "nan"),
        ([10**5000], "(list that has no text)"),
        ({"a": NoText()}, "(dict that has no text)"),
        ("x" * 16384, "x" * 16384),
        ("x" * 16385, "x" * 16384 + "… (cut: 16,384 of 16,385 bytes)"),
        ("x" + "\u00e9" * 9000, "x" + "\u00e9" * 8191 + "… (cut: 16,384 of 18,001 bytes)"),
        (["x" * 16384], '["' + "x" * 16382 + "… (cut: 16,384 of 16,388 bytes)"),
        (0, 0),
        ("", ""),
    ],
)
async def test_what_a_tool_takes_and_gives_is_json_and_cut_if_it_is_long(given: object, shown: object) -> None:
    first, last, _ = await events_of(
        Tool("1", "find", "called", given), Tool("1", "find", "done", output=given), Finish(), max_chars=99_999
    )
    assert (first, last) == (Tool("1", "find", "called", shown), Tool("1", "find", "done", output=shown))
    json.dumps([first.data(), last.data()], allow_nan=False)


async def test_what_a_tool_has_given_stays_as_it_was_then() -> None:
    rows = [1]
    generation = generation_of(Tool("1", "find", "done", output=rows), Finish())
    async with aclosing(generation.events()) as events:
        await anext(events)
        shown = await anext(events)
        rows.append(2)
    assert shown.data()["output"] == [1]


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (("a", "\ud83d", "\ude00b"), ("a", "\U0001f600b")),
        (("\ud83d\ude00",), ("\U0001f600",)),
        (("a\ud83d", "", "b"), ("a", "\ufffdb")),
        (("\ude00", "\ud83d\ud83d", "\ude00"), ("\ufffd", "\ufffd", "\U0001f600")),
        (("a", "\ud83d"), ("a",)),
    ],
    ids=["two pieces", "one piece", "a half alone", "the wrong way round", "at the end"],
)
async def test_what_is_shown_is_unicode_as_utf8_can_carry_it(pieces: Sequence[str], shown: Sequence[str]) -> None:
    """A client that sent half of a UTF-16 pair back with its history would be refused."""
    assert await events_of(*map(Reasoning, pieces), *pieces, Finish()) == [
        *map(Reasoning, shown),
        *map(Token, shown),
        Done("end"),
    ]


async def test_a_model_may_call_a_tool_by_what_is_no_unicode() -> None:
    events = await events_of(Tool("\ud800", "find\udfff", "called"), Finish())
    assert events == [Tool("\ufffd", "find\ufffd", "called"), Done("end")]


async def test_a_provider_knows_who_asks() -> None:
    """By default the key is the answer's own."""
    provider = ScriptedProvider("a")
    generation = Generation(provider, QUESTION, caller="alice", key="k", seconds=5, max_chars=9)
    other = Generation(provider, QUESTION, caller="bob", seconds=5, max_chars=9)
    await ran(generation)
    await ran(other)
    assert provider.askers == [Asker("alice", "k"), Asker("bob", other.id)]


@pytest.mark.parametrize("event", [Done("end"), Error("model_error", "", True, "r"), KeepAlive()])
async def test_a_provider_may_not_yield_what_is_not_its_own_to_say(event: Event) -> None:
    with pytest.raises(StreamFault) as raised:
        await events_of("a", event)
    assert raised.value.error.code == "model_error"


async def test_an_answer_knows_when_it_began_and_when_its_first_piece_came() -> None:
    generation = generation_of(0.01, "a")
    assert (generation.told.started, generation.told.first_piece) == (None, None)
    [event async for event in generation.events()]
    assert generation.told.started is not None
    assert generation.told.first_piece is not None
    assert generation.told.first_piece > generation.told.started


async def test_a_sign_of_life_is_no_first_piece() -> None:
    generation = generation_of("", 0.01, "a")
    async with aclosing(generation.events()) as events:
        await anext(events)
        began = monotonic()
        await anext(events)
    assert generation.told.first_piece is not None
    assert generation.told.first_piece - began >= 0.01


async def test_an_answer_without_a_piece_has_no_time_of_its_first() -> None:
    generation = generation_of(Finish())
    [event async for event in generation.events()]
    assert generation.told.first_piece is None

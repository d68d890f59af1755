import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from app.chat import answer_store
from app.chat.answer import Answer
from app.chat.answer_stream import AnswerStream
from app.chat.answers import Answers
from app.chat.providers.base import Finish, Message
from app.chat.settings import AnswerSettings
from app.errors import Conflict, NotFound, Unavailable
from app.logs import request_id
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.events import Event
from tests.providers import ScriptedProvider

SOON = 0.02
WAIT_SECONDS = 5.0  # only a broken test waits that long
QUESTION = [Message(role="user", content="?")]
OTHER = [Message(role="user", content="!")]


@pytest.fixture
async def opened() -> AsyncIterator[list[Answers]]:
    opened: list[Answers] = []
    yield opened
    for answers in opened:
        answers.lose_all()
        await answers.close()


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown(1)


@pytest.fixture
def answers_of(settings: Settings, opened: list[Answers], shutdown: Shutdown) -> Any:
    def open_answers(*script: object, **times: float) -> Answers:
        limits = AnswerSettings(_env_file=None, **times)  # type: ignore[arg-type]
        answers = Answers(ScriptedProvider(*script), settings, limits, shutdown)
        opened.append(answers)
        return answers

    return open_answers


async def ended(answer: Answer) -> None:
    await asyncio.wait_for(asyncio.wait({answer.run.closed}), WAIT_SECONDS)


async def events_of(answer: Answer) -> Sequence[Event]:
    await ended(answer)
    return await answer.log.after(0, 0) or []


def names(events: Sequence[Event]) -> list[str]:
    return [event.name for event in events]


async def test_an_answer_goes_on_without_a_reader(answers_of: Any) -> None:
    more = asyncio.Event()
    answer = answers_of("a", more, "b").ask(QUESTION, "me")
    with answer.reading():
        assert await answer.log.after(1, WAIT_SECONDS)
    more.set()
    assert names(await events_of(answer)) == ["status", "token", "token", "done"]
    assert answer.reason == "end"


@pytest.mark.parametrize("grace", [0, SOON])
async def test_it_is_stopped_when_nobody_has_read_it_for_too_long(answers_of: Any, grace: float) -> None:
    answer = answers_of("a", 60.0, answer_grace_seconds=grace).ask(QUESTION, "me")
    with answer.reading(), answer.reading():
        assert await answer.log.after(1, WAIT_SECONDS)
    await ended(answer)
    assert (answer.reason, answer.stopped, answer.generation.text) == ("cancelled", False, "a")


async def test_a_reader_who_comes_back_in_time_keeps_it(answers_of: Any) -> None:
    more = asyncio.Event()
    answer = answers_of("a", more, "b", answer_grace_seconds=SOON).ask(QUESTION, "me")
    with answer.reading():
        pass
    with answer.reading():
        await asyncio.sleep(3 * SOON)
        more.set()
        await ended(answer)
    assert answer.reason == "end"


async def test_one_that_nobody_ever_reads_is_stopped_too(answers_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.chat.answer.FIRST_READER_SECONDS", SOON)
    answer = answers_of("a", 60.0).start(QUESTION, "me", grace=0)
    await ended(answer)
    assert answer.reason == "cancelled"


async def test_whoever_stops_it_stops_it_for_all(answers_of: Any) -> None:
    answers = answers_of("a", 60.0)
    answer = answers.ask(QUESTION, "me")
    assert await answer.log.after(1, WAIT_SECONDS)
    answers.get(answer.id, "me").stop()
    await ended(answer)
    answer.stop()
    assert (answer.reason, answer.stopped) == ("cancelled", True)


async def test_one_that_has_ended_is_not_stopped_any_more(answers_of: Any) -> None:
    answer = answers_of(RuntimeError("on purpose")).ask(QUESTION, "me")
    await ended(answer)
    answer.stop()
    assert (answer.reason, answer.stopped) == ("error", False)


async def test_it_is_known_to_its_caller_alone_and_for_some_time(answers_of: Any) -> None:
    answers = answers_of("a", answer_retention_seconds=SOON)
    answer = answers.ask(QUESTION, "me", key="k")
    with pytest.raises(NotFound):
        answers.get(answer.id, "you")
    await ended(answer)
    await asyncio.sleep(0)
    assert answers.get(answer.id, "me") is answer
    await asyncio.sleep(3 * SOON)
    with pytest.raises(NotFound):
        answers.get(answer.id, "me")
    assert answers.ask(QUESTION, "me", key="k") is not answer


async def test_the_same_key_is_the_same_answer(answers_of: Any) -> None:
    answers = answers_of("a")
    answer = answers.ask(QUESTION, "me", key="k")
    assert answers.ask(QUESTION, "me", key="k") is answer
    await ended(answer)
    assert answers.ask(QUESTION, "me", key="k") is answer
    assert answers.ask(QUESTION, "you", key="k") is not answer
    assert answers.ask(QUESTION, "me", key="l") is not answer
    assert answers.ask(QUESTION, "me") is not answer
    with pytest.raises(Conflict):
        answers.ask(OTHER, "me", key="k")


@pytest.mark.parametrize("reason", ["length", "refusal"])
async def test_an_answer_that_is_whole_is_not_asked_again(answers_of: Any, reason: str) -> None:
    answers = answers_of("a", Finish(reason))  # type: ignore[arg-type]
    answer = answers.ask(QUESTION, "me", key="k")
    await ended(answer)
    assert answers.ask(QUESTION, "me", key="k") is answer


async def test_nor_is_one_that_a_caller_has_stopped(answers_of: Any) -> None:
    answers = answers_of("a", 60.0)
    answer = answers.ask(QUESTION, "me", key="k")
    answer.stop()
    await ended(answer)
    assert answers.ask(QUESTION, "me", key="k") is answer


async def test_one_that_has_failed_is(answers_of: Any, caplog: pytest.LogCaptureFixture) -> None:
    answers = answers_of(RuntimeError("on purpose"))
    answer = answers.ask(QUESTION, "me", key="k")
    await ended(answer)
    another = answers.ask(QUESTION, "me", key="k")
    assert another is not answer
    (line,) = (record for record in caplog.records if "asked again" in record.message)
    assert (vars(line)["stream"], vars(line)["reason"]) == (answer.id, "error")
    assert answers.ask(QUESTION, "me", key="k") is another


async def test_so_is_one_that_takes_too_long_and_is_stopped_while_its_model_closes(
    settings: Settings, opened: list[Answers], shutdown: Shutdown
) -> None:
    closes = asyncio.Event()

    class Slow(ScriptedProvider):
        async def stream(self, messages):  # type: ignore[no-untyped-def]
            try:
                yield "a"
                await asyncio.sleep(60)
            finally:
                await closes.wait()

    brief = settings.model_copy(update={"model_timeout_seconds": SOON})
    opened.append(answers := Answers(Slow(), brief, AnswerSettings(_env_file=None), shutdown))
    answer = answers.ask(QUESTION, "me", key="k")
    await asyncio.sleep(3 * SOON)
    assert answer.running
    answer.stop()
    another = answers.ask(QUESTION, "me", key="k")
    closes.set()
    await ended(answer)
    assert (answer.reason, answer.stopped, another is not answer) == ("timeout", False, True)


async def test_so_is_one_that_its_readers_have_left(answers_of: Any) -> None:
    answers = answers_of("a", 60.0, answer_grace_seconds=0)
    answer = answers.ask(QUESTION, "me", key="k")
    with answer.reading():
        pass
    await ended(answer)
    assert answers.ask(QUESTION, "me", key="k") is not answer


async def test_so_many_run_at_once(answers_of: Any) -> None:
    answers = answers_of(60.0, max_answers=2)
    first = answers.ask(QUESTION, "me", key="k")
    answers.ask(QUESTION, "me")
    with pytest.raises(Unavailable):
        answers.ask(QUESTION, "me")
    assert answers.ask(QUESTION, "me", key="k") is first
    first.stop()
    await ended(first)
    await asyncio.sleep(0)
    answers.ask(QUESTION, "me")


async def test_none_runs_longer_than_so(answers_of: Any) -> None:
    answer = answers_of("a", *[SOON / 2, "b"] * 100, answer_max_seconds=SOON).ask(QUESTION, "me")
    *_, error, done = await events_of(answer)
    assert (vars(error)["code"], vars(done)["reason"]) == ("model_timeout", "timeout")


async def test_of_those_that_have_ended_the_oldest_make_room(answers_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answers_of("x" * 1000)
    old, young = answers.ask(QUESTION, "me"), answers.ask(QUESTION, "me")
    for answer in (old, young):
        await ended(answer)
    await asyncio.sleep(0)
    monkeypatch.setattr(answer_store, "MAX_BYTES", young.bytes + 1)
    running = answers.ask(QUESTION, "me")
    assert answers.get(young.id, "me") is young
    with pytest.raises(NotFound):
        answers.get(old.id, "me")
    assert answers.get(running.id, "me") is running


@pytest.mark.parametrize("stopped_at_once", [True, False])
async def test_one_that_has_ended_holds_its_question_no_more(answers_of: Any, stopped_at_once: bool) -> None:
    question = Message(role="user", content="x" * 100_000)
    held = weakref.ref(question)
    answers = answers_of("a")
    answer = answers.ask([question], "me")
    assert answer.bytes > 100_000
    if stopped_at_once:
        answer.stop()
    await ended(answer)
    answers._provider.asked.clear()
    del question
    gc.collect()
    assert (held(), answer.bytes < 10_000) == (None, True)


async def test_nothing_holds_what_is_forgotten_for_want_of_room(
    answers_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "MAX_BYTES", 1)
    answer = answers_of("a").ask(QUESTION, "me", key="k")
    await ended(answer)
    await asyncio.sleep(SOON)
    kept = weakref.ref(answer)
    del answer
    gc.collect()
    assert kept() is None


async def test_those_that_run_do_not(answers_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answers_of("x" * 1000, 60.0)
    answer = answers.ask(QUESTION, "me")
    assert await answer.log.after(1, WAIT_SECONDS)
    monkeypatch.setattr(answer_store, "MAX_BYTES", answer.bytes)
    with pytest.raises(Unavailable):
        answers.ask(QUESTION, "me")
    assert answer.running


async def test_one_that_the_process_takes_along_is_lost(answers_of: Any) -> None:
    answers = answers_of("a", 60.0)
    answer = answers.ask(QUESTION, "me")
    assert await answer.log.after(1, WAIT_SECONDS)
    answers.lose_all()
    await answers.close()
    *_, error, done = await events_of(answer)
    assert (vars(error)["code"], vars(error)["retryable"], vars(done)["reason"]) == ("producer_lost", True, "error")


async def test_who_comes_back_in_time_is_waited_for(answers_of: Any) -> None:
    """The time without readers is over between the request and the moment when the answer is read."""
    answers = answers_of("a", 60.0, answer_grace_seconds=SOON)
    answer = answers.ask(QUESTION, "me", key="k")
    with answer.reading():
        pass
    assert AnswerStream(answers.ask(QUESTION, "me", key="k")).answer is answer
    await asyncio.sleep(3 * SOON)
    assert answer.running


async def test_none_begins_when_nobody_would_end_it_any_more(answers_of: Any, shutdown: Shutdown) -> None:
    answers = answers_of("a")
    shutdown.expired = True
    with pytest.raises(Unavailable):
        answers.ask(QUESTION, "me")


async def test_its_errors_name_the_request_that_asked(answers_of: Any) -> None:
    answers = answers_of(60.0)
    request_id.set("of-the-request")
    answer = answers.ask(QUESTION, "me")
    contextvars.Context().run(answers.lose_all)
    *_, error, _ = await events_of(answer)
    assert vars(error)["request_id"] == "of-the-request"


async def test_what_an_answer_took_is_logged_once_when_it_ends(
    answers_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.usage")
    answers = answers_of("a", Finish("length", {"output_tokens": 1}))
    answer = answers.ask(QUESTION, "me", key="k")
    for _ in range(3):
        with answers.ask(QUESTION, "me", key="k").reading():
            pass
    await ended(answer)
    await answers.close()
    (line,) = (vars(record) for record in caplog.records if record.name == "app.usage")
    assert (line["stream"], line["reason"], line["output_tokens"]) == (answer.id, "length", 1)
    assert 0 <= float(line["first_piece_seconds"]) < WAIT_SECONDS


async def test_nor_can_one_be_joined_that_is_about_to_end(answers_of: Any) -> None:
    answers = answers_of("a", 60.0, answer_grace_seconds=0)
    answer = answers.ask(QUESTION, "me", key="k")
    with answer.reading():
        pass
    assert answer.running
    assert answers.ask(QUESTION, "me", key="k") is not answer

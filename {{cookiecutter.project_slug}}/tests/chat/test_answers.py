import asyncio
import contextvars
import gc
import weakref
from collections.abc import Sequence

import pytest

from app.chat.answer_stream import AnswerStream
from app.chat.providers.base import Finish, Message
from app.errors import Conflict, NotFound, TooMany, Unavailable
from app.logs import request_id
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.events import Event
from tests.chat.asking import OTHER, QUESTION, SOON, WAIT_SECONDS, Open, ask, ended, events_of
from tests.providers import ScriptedProvider


def names(events: Sequence[Event]) -> list[str]:
    return [event.event_type for event in events]


async def test_an_answer_goes_on_without_a_reader(answers_of: Open) -> None:
    more = asyncio.Event()
    answer = await ask(await answers_of("a", more, "b"), QUESTION, "me")
    with answer.reading():
        assert await answer.log.after(1, WAIT_SECONDS)
    more.set()
    assert names(await events_of(answer)) == ["status", "token", "token", "done"]
    assert answer.reason == "end"


@pytest.mark.parametrize("grace", [0, SOON])
async def test_it_is_stopped_when_nobody_has_read_it_for_too_long(answers_of: Open, grace: float) -> None:
    answer = await ask(await answers_of("a", 60.0, answer_grace_seconds=grace), QUESTION, "me")
    with answer.reading(), answer.reading():
        assert await answer.log.after(1, WAIT_SECONDS)
    await ended(answer)
    assert (answer.reason, answer.stopped, answer.generation.text) == ("cancelled", False, "a")


async def test_a_reader_who_comes_back_in_time_keeps_it(answers_of: Open) -> None:
    more = asyncio.Event()
    answer = await ask(await answers_of("a", more, "b", answer_grace_seconds=SOON), QUESTION, "me")
    with answer.reading():
        pass
    with answer.reading():
        await asyncio.sleep(3 * SOON)
        more.set()
        await ended(answer)
    assert answer.reason == "end"


async def test_one_that_nobody_ever_reads_is_stopped_too(answers_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.chat.known_answer.FIRST_READER_SECONDS", SOON)
    answer = await (await answers_of("a", 60.0)).start(QUESTION, "me", grace=0)
    await ended(answer)
    assert answer.reason == "cancelled"


async def test_whoever_stops_it_stops_it_for_all(answers_of: Open) -> None:
    answers = await answers_of("a", 60.0)
    answer = await ask(answers, QUESTION, "me")
    assert await answer.log.after(1, WAIT_SECONDS)
    await (await answers.get(answer.id, "me")).stop()
    await ended(answer)
    await answer.stop()
    assert (answer.reason, answer.stopped) == ("cancelled", True)


async def test_one_that_has_ended_is_not_stopped_any_more(answers_of: Open) -> None:
    answer = await ask(await answers_of(RuntimeError("on purpose")), QUESTION, "me")
    await ended(answer)
    await answer.stop()
    assert (answer.reason, answer.stopped) == ("error", False)


async def test_it_is_known_to_its_caller_alone(answers_of: Open) -> None:
    answers = await answers_of("a")
    answer = await ask(answers, QUESTION, "me", key="k")
    with pytest.raises(NotFound):
        await answers.get(answer.id, "you")
    await ended(answer)
    assert (await answers.get(answer.id, "me")).id == answer.id


async def test_the_same_key_is_the_same_answer(answers_of: Open) -> None:
    answers = await answers_of("a")
    answer = await ask(answers, QUESTION, "me", key="k")
    assert (await answers.ask(QUESTION, "me", key="k")).id == answer.id
    await ended(answer)
    assert (await answers.ask(QUESTION, "me", key="k")).id == answer.id
    assert (await answers.ask(QUESTION, "you", key="k")).id != answer.id
    assert (await answers.ask(QUESTION, "me", key="l")).id != answer.id
    assert (await answers.ask(QUESTION, "me")).id != answer.id
    with pytest.raises(Conflict):
        await answers.ask(OTHER, "me", key="k")


@pytest.mark.parametrize("reason", ["length", "refusal"])
async def test_an_answer_that_is_whole_is_not_asked_again(answers_of: Open, reason: str) -> None:
    answers = await answers_of("a", Finish(reason))  # type: ignore[arg-type]
    answer = await ask(answers, QUESTION, "me", key="k")
    await ended(answer)
    assert (await answers.ask(QUESTION, "me", key="k")).id == answer.id


async def test_nor_is_one_asked_again_that_a_caller_has_stopped(answers_of: Open) -> None:
    answers = await answers_of("a", 60.0)
    answer = await ask(answers, QUESTION, "me", key="k")
    await answer.stop()
    await ended(answer)
    assert (await answers.ask(QUESTION, "me", key="k")).id == answer.id


async def test_one_that_has_failed_is_asked_again(answers_of: Open, caplog: pytest.LogCaptureFixture) -> None:
    answers = await answers_of(RuntimeError("on purpose"))
    answer = await ask(answers, QUESTION, "me", key="k")
    await ended(answer)
    another = await ask(answers, QUESTION, "me", key="k")
    assert another is not answer
    (line,) = (record for record in caplog.records if "asked again" in record.message)
    assert (vars(line)["stream"], vars(line)["reason"]) == (answer.id, "error")
    assert (await answers.ask(QUESTION, "me", key="k")).id == another.id


async def test_so_is_one_asked_again_that_takes_too_long_and_is_stopped_while_its_model_closes(
    settings: Settings, open_answers: Open
) -> None:
    closes = asyncio.Event()

    class Slow(ScriptedProvider):
        async def stream(self, messages, asker):  # type: ignore[no-untyped-def]
            try:
                yield "a"
                await asyncio.sleep(60)
            finally:
                await closes.wait()

    brief = settings.model_copy(update={"model_timeout_seconds": SOON})
    answers = await open_answers(Slow(), brief)
    answer = await ask(answers, QUESTION, "me", key="k")
    await asyncio.sleep(3 * SOON)
    assert answer.running
    await answer.stop()
    another = await ask(answers, QUESTION, "me", key="k")
    closes.set()
    await ended(answer)
    assert (answer.reason, answer.stopped, another is not answer) == ("timeout", False, True)


async def test_so_is_one_asked_again_that_its_readers_have_left(answers_of: Open) -> None:
    answers = await answers_of("a", 60.0, answer_grace_seconds=0)
    answer = await ask(answers, QUESTION, "me", key="k")
    with answer.reading():
        pass
    await ended(answer)
    assert (await answers.ask(QUESTION, "me", key="k")).id != answer.id


async def test_so_many_run_at_once(answers_of: Open) -> None:
    answers = await answers_of(60.0, max_answers=2)
    first = await ask(answers, QUESTION, "me", key="k")
    await answers.ask(QUESTION, "me")
    with pytest.raises(Unavailable) as refused:
        await answers.ask(QUESTION, "me")
    assert refused.value.limit == "all answers"
    assert (await answers.ask(QUESTION, "me", key="k")).id == first.id
    await first.stop()
    await ended(first)
    await asyncio.sleep(0)
    await answers.ask(QUESTION, "me")


async def test_so_many_of_one_caller_run_at_once(answers_of: Open) -> None:
    answers = await answers_of(60.0, max_answers_per_caller=2)
    first = await ask(answers, QUESTION, "me", key="k")
    await answers.ask(QUESTION, "me")
    for key in (None, "l"):
        with pytest.raises(TooMany) as refused:
            await answers.ask(QUESTION, "me", key=key)
        assert refused.value.headers["RateLimit-Policy"] == '"answers";q=2;qu="concurrent-requests"'
    assert (await answers.ask(QUESTION, "me", key="k")).id == first.id
    await answers.ask(QUESTION, "you")
    await first.stop()
    await ended(first)
    await asyncio.sleep(0)
    another = await ask(answers, QUESTION, "me", key="l")  # nothing was kept under this key
    with pytest.raises(TooMany):
        await answers.ask(QUESTION, "me")
    assert (await answers.ask(OTHER, "you", key="l")).id != another.id


async def test_whose_answer_has_just_ended_may_begin_the_next(answers_of: Open) -> None:
    answers = await answers_of("a", max_answers_per_caller=1)
    for _ in range(5):
        answer = await ask(answers, QUESTION, "me")
        while answer.running:
            await answer.log.after(len(answer.log), WAIT_SECONDS)


async def test_who_may_begin_is_asked_once_for_each_that_is_new(answers_of: Open) -> None:
    admitted = []

    async def admit(caller: str) -> None:
        admitted.append(caller)

    answers = await answers_of("a", admit=admit)
    for key in ("k", "k", "l", None):
        await ask(answers, QUESTION, "me", key=key)
    assert admitted == ["me"] * 3


async def test_who_may_not_begin_is_refused_before_the_model_is_asked_and_nothing_is_kept(open_answers: Open) -> None:
    refuses = True

    async def admit(caller: str) -> None:
        await asyncio.sleep(0)
        if refuses:
            raise TooMany("too many", limit="some", quota=1, per="w=60", seconds=9)

    provider = ScriptedProvider("a")
    answers = await open_answers(provider, admit=admit)
    for key in (None, "k"):
        with pytest.raises(TooMany):
            await answers.ask(QUESTION, "me", key=key)
    assert provider.asked == []
    refuses = False
    await ask(answers, OTHER, "me", key="k")  # else another question would be a conflict


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("kind", [ConnectionRefusedError, TimeoutError])
async def test_what_a_limit_fails_with_is_its_own(answers_of: Open, kind: type[OSError], key: str | None) -> None:
    """It does not say that the store is away: a 503, and nothing in the log."""

    async def admit(caller: str) -> None:
        raise kind("of the limit")

    answers = await answers_of("a", admit=admit)
    with pytest.raises(kind, match="of the limit"):
        await answers.ask(QUESTION, "me", key=key)


async def test_a_key_that_comes_twice_while_that_is_found_out_is_one_answer(answers_of: Open) -> None:
    async def admit(caller: str) -> None:
        await asyncio.sleep(SOON)

    answers = await answers_of("a", admit=admit)
    asked = await asyncio.gather(*(answers.ask(QUESTION, "me", key="k") for _ in range(3)))
    assert len({answer.id for answer in asked}) == 1


async def test_no_more_is_counted_for_those_that_find_no_space(answers_of: Open) -> None:
    admitted = []

    async def admit(caller: str) -> None:
        admitted.append(caller)

    answers = await answers_of(60.0, admit=admit, max_answers=2, max_answers_per_caller=1)
    await answers.ask(QUESTION, "me")
    with pytest.raises(TooMany):
        await answers.ask(QUESTION, "me")
    await answers.ask(QUESTION, "you")
    with pytest.raises(Unavailable):
        await answers.ask(QUESTION, "they")
    assert admitted == ["me", "you"]


async def test_none_runs_longer_than_an_answer_may(answers_of: Open) -> None:
    answer = await ask(await answers_of("a", *[SOON / 2, "b"] * 100, answer_max_seconds=SOON), QUESTION, "me")
    *_, error, done = await events_of(answer)
    assert (vars(error)["code"], vars(done)["reason"]) == ("model_timeout", "timeout")


@pytest.mark.parametrize("stopped_at_once", [True, False])
async def test_one_that_has_ended_holds_its_question_no_more(open_answers: Open, stopped_at_once: bool) -> None:
    question = Message(role="user", content="x" * 100_000)
    held = weakref.ref(question)
    provider = ScriptedProvider("a")
    answer = await ask(await open_answers(provider), [question], "me")
    assert answer.bytes > 100_000
    if stopped_at_once:
        await answer.stop()
    await ended(answer)
    provider.asked.clear()
    del question
    gc.collect()
    assert (held(), answer.bytes < 10_000) == (None, True)


async def test_one_that_the_process_takes_along_is_lost(answers_of: Open) -> None:
    answers = await answers_of("a", 60.0)
    answer = await ask(answers, QUESTION, "me")
    assert await answer.log.after(1, WAIT_SECONDS)
    answers.lose_all()
    await answers.close()
    *_, error, done = await events_of(answer)
    assert (vars(error)["code"], vars(error)["retryable"], vars(done)["reason"]) == ("producer_lost", True, "error")


async def test_who_comes_back_in_time_is_waited_for(answers_of: Open) -> None:
    """The time without readers is over between the request and the moment when the answer is read."""
    answers = await answers_of("a", 60.0, answer_grace_seconds=SOON)
    answer = await ask(answers, QUESTION, "me", key="k")
    with answer.reading():
        pass
    assert AnswerStream(await answers.ask(QUESTION, "me", key="k")).answer is answer
    await asyncio.sleep(3 * SOON)
    assert answer.running


async def test_none_begins_when_nobody_would_end_it_any_more(answers_of: Open, shutdown: Shutdown) -> None:
    answers = await answers_of("a")
    shutdown.expired = True
    with pytest.raises(Unavailable):
        await answers.ask(QUESTION, "me")


async def test_its_errors_name_the_request_that_asked(answers_of: Open) -> None:
    answers = await answers_of(60.0)
    request_id.set("of-the-request")
    answer = await ask(answers, QUESTION, "me")
    contextvars.Context().run(answers.lose_all)
    *_, error, _ = await events_of(answer)
    assert vars(error)["request_id"] == "of-the-request"


async def test_an_answer_that_is_kept_holds_nothing_of_the_requests_that_have_read_it(answers_of: Open) -> None:
    """Its timers would, and so whatever there is in the contexts of these requests."""

    class OfRequest:
        pass

    of_request = contextvars.ContextVar[OfRequest]("of_request")
    answers = await answers_of("a", Finish())
    answer = await ask(answers, QUESTION, "me")

    async def read() -> weakref.ref[OfRequest]:
        of_request.set(found := OfRequest())
        with answer.reading():
            assert await answer.log.after(0, WAIT_SECONDS)
        return weakref.ref(found)

    found = await asyncio.create_task(read())
    await ended(answer)
    await answers.close()
    await asyncio.sleep(0)
    gc.collect()
    assert found() is None


async def test_what_an_answer_took_is_logged_once_when_it_ends(
    answers_of: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.usage")
    answers = await answers_of("a", Finish("length", {"output_tokens": 1}))
    answer = await ask(answers, QUESTION, "me", key="k")
    for _ in range(3):
        with (await answers.ask(QUESTION, "me", key="k")).reading():
            pass
    await ended(answer)
    await answers.close()
    (line,) = (vars(record) for record in caplog.records if record.name == "app.usage")
    assert (line["caller"], line["stream"]) == ("me", answer.id)
    assert (line["reason"], line["output_tokens"]) == ("length", 1)
    assert 0 <= float(line["first_piece_seconds"]) < WAIT_SECONDS


async def test_one_that_is_about_to_end_is_not_joined(answers_of: Open) -> None:
    answers = await answers_of("a", 60.0, answer_grace_seconds=0)
    answer = await ask(answers, QUESTION, "me", key="k")
    with answer.reading():
        pass
    assert answer.running
    assert (await answers.ask(QUESTION, "me", key="k")).id != answer.id

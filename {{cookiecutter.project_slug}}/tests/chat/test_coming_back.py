"""Readers that come, leave and come back: whatever the model does, what each has read is the log, without a gap."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.chat.answer_settings import AnswerSettings
from app.chat.answer_store import AnswerStore
from app.chat.answer_stream import AnswerStream
from app.chat.answers import Answers
from app.chat.known_answer import KnownAnswer
from app.chat.providers.base import Asker, Finish, Message, ModelError
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.events import Event
from tests.asgi import exchange, state
from tests.sse import Received, parse

STEPS = ["word", "word", "nothing", "wait", "fails", "exits", "cancels itself", "finishes", "swallows"]
Visit = tuple[int, int | None]  # turns of the loop before it, and the pieces after which the reader leaves


class Model:
    service = model = "of steps"

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = steps

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Finish, None]:
        for number, step in enumerate(self.steps):
            match step:
                case "word":
                    yield f"{number} "
                case "nothing":
                    yield ""
                case "wait":
                    await asyncio.sleep(0)
                case "fails":
                    raise ModelError("on purpose", retryable=True)
                case "exits":
                    raise SystemExit(1)
                case "cancels itself":
                    raise asyncio.CancelledError
                case "finishes":
                    yield Finish("length")
                case "swallows":
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError:
                        yield "more "


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def read(answer: KnownAnswer, place: int, visits: Sequence[Visit]) -> list[Received]:
    """What one reader has got, who begins at a place. After its last visit it stays to the end."""
    got: list[Received] = []
    for wait, leaves in [*visits, (0, None)]:
        await turns(wait)
        after = int(got[-1].id or 0) if got else place
        async with exchange(AnswerStream(answer, after=after), **state()) as stream:
            if leaves is None:
                got += parse(await stream.rest())
            else:
                got += parse("".join([await stream.text() for _ in range(leaves) if not stream.finished]))
                stream.gone.set()
                await stream.until_ended()
        if got and got[-1].name == "done":
            break
    return got


@hypothesis_settings(deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=8),
    readers=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=3)),
        min_size=1,
        max_size=3,
    ),
    stopped=st.none() | st.integers(0, 12),
    lost=st.none() | st.integers(0, 12),
)
async def test_each_has_read_the_log(
    steps: list[str],
    readers: list[tuple[int, list[Visit]]],
    stopped: int | None,
    lost: int | None,
    answer_settings: Callable[..., AnswerSettings],
) -> None:
    settings, times = Settings(_env_file=None), answer_settings()
    others = asyncio.all_tasks()
    async with AnswerStore.open(times) as store:
        answers = Answers(store, Model(steps), settings, times, Shutdown(1))
        answer = await answers.ask([Message(role="user", content="?")], "me")

        async def stop(after: int) -> None:
            await turns(after)
            await answer.stop()

        async def lose(after: int) -> None:
            await turns(after)
            answers.lose_all()

        reading = asyncio.gather(
            *(read(answer, place, visits) for place, visits in readers),
        )
        ends = [stop(stopped)] if stopped is not None else []
        ends += [lose(lost)] if lost is not None else []
        got, *_ = await asyncio.wait_for(asyncio.gather(reading, *ends), 10)
        await answers.close()
    await turns(2)
    assert asyncio.all_tasks() <= others

    events: list[Event] = []
    while batch := await answer.log.after(len(events), 0):
        events += batch
    assert [event.event_type for event in events].count("done") == 1
    assert events[-1].event_type == "done"
    for (place, _), received in zip(readers, got, strict=True):
        if [event.id for event in received] == [None, None]:  # it is told to come back, for it was ahead of the log
            assert place > answer.log.end_place
            continue
        expected = events[place:]
        assert [event.id for event in received] == [str(place + number) for number in range(1, len(expected) + 1)]
        assert [(event.name, event.data) for event in received] == [
            (event.event_type, event.data()) for event in expected
        ]

"""Whatever a source does and whoever ends its stream, at whatever step: the client gets what the contract says."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from app.shutdown import Shutdown
from app.streams.events import Done, Error, Event, Status, StreamFault, Token
from app.streams.response import EventStream
from tests.asgi import Exchange, exchange, state
from tests.sse import parse
from tests.streams.dialects import DIALECTS, Number

PAUSE = 0.003
GRAMMAR = re.compile("(status |token )*(error )?done ")

# What a source does, step by step.
CALM = ["token", "token", "turn", "pause"]
FAULTS = ["raise", "fault", "cancel itself", "no event", "not encodable", "done", "cleanup fails", "own time limit"]
# What others do to its stream, meanwhile.
ENDINGS = [
    "nobody",
    "client leaves",
    "client stalls",
    "client is slow",
    "drain",
    "drain, slow",
    "drain and stall",
    "too long",
    "too long, slow",
    "too long and stall",
    "server cancels",
]


@pytest.fixture(autouse=True, scope="module")
def short_farewell() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.streams.response.FAREWELL_SECONDS", 10 * PAUSE)
        yield


class Script:
    def __init__(self, steps: list[str], at: int, ending: str) -> None:
        self.steps = steps
        self.at = at
        self.ending = ending
        self.made: list[str] = []
        self.cancelled = 0
        self.closed = False

    async def source(self, stream: Exchange, shutdown: Shutdown) -> AsyncGenerator[Event, None]:
        try:
            yield Status("thinking", "s")
            for number, step in enumerate(self.steps):
                if number == self.at:
                    self.end(stream, shutdown)
                if step == "own time limit":
                    async with asyncio.timeout(PAUSE):
                        await asyncio.sleep(60)
                if event := await self.take(step, number):
                    yield event
            if self.at >= len(self.steps):
                self.end(stream, shutdown)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += "cancel itself" not in self.steps
            raise
        finally:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:  # may come here too, but not where it has come before
                self.cancelled += 1
            self.closed = True
            if "cleanup fails" in self.steps:
                raise OSError("the model's connection")

    async def take(self, step: str, number: int) -> Event | None:
        match step:
            case "token":
                if not {"done", "not encodable"} & {*self.steps[:number]}:
                    self.made.append(str(number))
                return Token(str(number))
            case "turn":
                await asyncio.sleep(0)
            case "pause":
                await asyncio.sleep(PAUSE)
            case "raise":
                raise ValueError(step)
            case "fault":
                raise StreamFault(Error("model_error", "no", True, "-"))
            case "cancel itself":
                raise asyncio.CancelledError
            case "no event":
                return "text"  # type: ignore[return-value]
            case "not encodable":
                return Number(float("nan"))
            case "done":
                return Done("length")
        return None

    def end(self, stream: Exchange, shutdown: Shutdown) -> None:
        match self.ending:
            case "client leaves":
                stream.gone.set()
            case "client stalls":
                stream.taking.clear()
            case "client is slow":
                stream.taking.clear()
                asyncio.get_running_loop().call_later(PAUSE, stream.taking.set)
            case "drain":
                shutdown.begin()
            case "drain, slow":
                stream.taking.clear()
                asyncio.get_running_loop().call_later(PAUSE, stream.taking.set)
                shutdown.begin()
            case "too long, slow":
                stream.taking.clear()
                asyncio.get_running_loop().call_later(2 * PAUSE, stream.taking.set)
            case "too long and stall":
                stream.taking.clear()
            case "drain and stall":
                stream.taking.clear()
                shutdown.begin()
            case "server cancels":
                stream.call.cancel()


@settings(deadline=None)
@given(
    steps=st.lists(st.sampled_from(CALM + FAULTS), max_size=8),
    at=st.integers(0, 8),
    ending=st.sampled_from(ENDINGS),
    dialect=st.sampled_from(sorted(DIALECTS)),
    beats=st.booleans(),
)
async def test_the_contract_holds(steps: list[str], at: int, ending: str, dialect: str, beats: bool) -> None:
    script = Script(steps, at, ending)
    at_its_limit = ending.startswith(("drain", "too long"))
    longest = 2 * PAUSE if ending.startswith("too long") else 60
    gives_up = 10 * PAUSE if "stall" in ending else 60  # a busy machine is slow, too
    shared = state(heartbeat=PAUSE / 2 if beats else 5, send_timeout=gives_up, drain=0, longest=longest)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        source = script.source(scope["state"]["transport"], shared["shutdown"])
        await EventStream(source, DIALECTS[dialect].encode)(scope, receive, send)

    others = asyncio.all_tasks()
    async with exchange(app, **shared) as stream:
        text = await stream.rest()
        finished, aborted, gone = stream.finished, stream.aborted, stream.gone.is_set()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= others

    names = DIALECTS[dialect].names(text)
    assert script.closed
    # Closed once for its own fault it may be cancelled in that, too.
    assert script.cancelled <= (2 if {"no event", "not encodable"} & set(steps) else 1)
    if finished:
        assert GRAMMAR.fullmatch("".join(f"{name} " for name in names)), names
        assert not aborted
    else:
        assert aborted or gone or ending == "server cancels"
        assert ending not in ("nobody", "client is slow", "drain", "too long")
    if dialect == "ours":
        events = parse(text)
        ids = [event.id for event in events if event.id]
        assert ids == [str(number) for number in range(1, len(ids) + 1)]
        tokens = [event.data["text"] for event in events if event.name == "token"]
        whole = finished and not at_its_limit  # what is made then may come too late
        assert tokens == (script.made if whole else script.made[: len(tokens)])
        for event in events[len(ids) :]:  # what the connection adds
            assert event.name in ("error", "done")
            assert at_its_limit or "not encodable" in steps

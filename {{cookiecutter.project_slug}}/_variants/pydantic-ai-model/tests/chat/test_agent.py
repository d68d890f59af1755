"""The agent's own tools, with jobs where the service keeps them."""

from collections.abc import Callable
from typing import Any

import pytest

from app.chat.answer_settings import AnswerSettings
from app.chat.providers.base import Asker, ModelError
from app.chat.room import chat
from app.jobs.queue import JobQueue
from app.jobs.store import Store
from app.main import create_app
from app.settings import Settings
from app.streams.events import Tool
from tests.asgi import exchange
from tests.callers.knowing import ANYBODY
from tests.jobs.backing import *  # noqa: F403 - its fixtures, whatever the queue is
from tests.scripted_agent import ASKER, QUESTION, Call, Script, pieces_of, provider_of
from tests.sse import parse

HAMLET = {"title": "Hamlet", "text": "To be, or not to be"}
INDEX = Call("index_document", HAMLET)
FAILS = ModelError("the service is away")


@pytest.fixture
def jobs(store: Store) -> JobQueue:
    return JobQueue(store)


async def asked(jobs: JobQueue, *rounds: list[object]) -> list[Tool]:
    """What the tools said."""
    pieces = await pieces_of(provider_of(Script(*rounds), {JobQueue: jobs}))
    return [piece for piece in pieces if isinstance(piece, Tool) and piece.state != "called"]


async def test_a_document_becomes_a_job_of_whoever_asks(jobs: JobQueue) -> None:
    (indexed,) = await asked(jobs, [INDEX], ["It is on its way."])
    (job,) = await jobs.latest(None, 10, caller=ASKER.caller)
    assert indexed == Tool("c-1", "index_document", "done", output={"job": job.id, "status": "queued"})
    assert (job.task, job.caller) == ("index_document", ASKER.caller)


async def test_a_job_is_looked_up_by_its_id(jobs: JobQueue) -> None:
    (indexed,) = await asked(jobs, [INDEX], ["It is on its way."])
    (found,) = await asked(jobs, [Call("look_up_job", {"job": indexed.output["job"]})], ["It waits."])
    assert found.output == {"status": "queued", "result": None}


async def test_a_job_of_somebody_else_is_not_found(jobs: JobQueue) -> None:
    (indexed,) = await asked(jobs, [INDEX], ["It is on its way."])
    provider = provider_of(Script([Call("look_up_job", {"job": indexed.output["job"]})], ["No."]), {JobQueue: jobs})
    pieces = [piece async for piece in provider.stream(QUESTION, Asker("you", "key")) if isinstance(piece, Tool)]
    assert pieces[-1] == Tool("c-1", "look_up_job", "failed", output="there is no such job")


async def test_a_document_that_is_none_is_said_to_the_model(jobs: JobQueue) -> None:
    (failed,) = await asked(jobs, [Call("index_document", {"title": "", "text": "x"})], ["It has no title."])
    assert failed.state == "failed"
    assert await jobs.latest(None, 10, caller=ASKER.caller) == []


async def test_equal_calls_are_two_jobs_and_a_repeated_run_has_the_same(jobs: JobQueue) -> None:
    rounds: list[list[object]] = [[INDEX], [INDEX], ["Both are on their way."]]
    first = await asked(jobs, *rounds)
    again = await asked(jobs, *rounds)
    assert len({each.output["job"] for each in first}) == 2
    assert again == first
    assert len(await jobs.latest(None, 10, caller=ASKER.caller)) == 2


async def test_a_question_that_is_asked_again_since_its_answer_has_failed_accepts_no_second_job(
    jobs: JobQueue, settings: Settings, answer_settings: Callable[..., AnswerSettings]
) -> None:
    """It came with the same Idempotency-Key. With another one, the job is another."""
    script = Script([INDEX], [FAILS], [INDEX], ["It is on its way."], [INDEX], ["It is on its way."])
    app = create_app(settings, [chat(provider_of(script, {JobQueue: jobs}), answer_settings())], ANYBODY)
    ended, accepted = list[str](), list[Any]()
    async with app.router.lifespan_context(app) as state:
        for key in ("one", "one", "other"):
            headers = {"Idempotency-Key": key}
            async with exchange(app, "/chat/stream", body={"question": "Hi"}, headers=headers, **state) as stream:  # type: ignore[arg-type]
                *events, done = parse(await stream.rest())
            ended.append(done.data["reason"])
            accepted += [event.data["output"]["job"] for event in events if event.data.get("state") == "done"]
    assert ended == ["error", "end", "end"]
    assert accepted[0] == accepted[1] != accepted[2]

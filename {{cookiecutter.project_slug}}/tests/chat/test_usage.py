"""How an answer has ended is said once, in one word; and so is that somebody comes back to one."""

import logging
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.chat.providers.base import Finish, ModelError
from app.settings import Settings
from tests.chat.asking import QUESTION, SOON, WAIT_SECONDS, Open, ask, ended
from tests.providers import ScriptedProvider

HI = {"question": "Hi"}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "app.usage"]


@pytest.mark.parametrize(
    ("then", "outcome", "error"),
    [
        (Finish(), "end", None),
        (Finish("length"), "length", None),
        (Finish("refusal"), "refusal", None),
        (ModelError("no", code="model_busy"), "error", "model_busy"),
        (RuntimeError("on purpose"), "error", "model_error"),
        ("is silent", "timeout", "model_timeout"),
        ("takes too long", "timeout", "model_timeout"),
        ("is stopped", "stopped", None),
        ("has no reader", "abandoned", None),
        ("is lost", "lost", "producer_lost"),
        ("is cut", "elsewhere", "producer_lost"),
    ],
    ids=str,
)
async def test_how_an_answer_has_ended(
    open_answers: Open, settings: Settings, then: object, outcome: str, error: str | None, caplog: Any
) -> None:
    caplog.set_level("INFO", "app.usage")
    script = ScriptedProvider("a", *((60.0,) if isinstance(then, str) else (then,)))
    asked_of, times = settings, dict[str, float]()
    if then == "is silent":
        asked_of = settings.model_copy(update={"model_timeout_seconds": SOON})
    if then == "takes too long":
        times["answer_max_seconds"] = SOON
    if then == "has no reader":
        times["answer_grace_seconds"] = 0
    answers = await open_answers(script, asked_of, **times)
    answer = await ask(answers, QUESTION, "me")
    with answer.reading():
        assert await answer.log.after(1, WAIT_SECONDS)
        if then == "is cut":
            answer.log.cut()
        if then in ("is lost", "is cut"):
            answer.lose()
        if then == "is stopped":
            await answer.stop()
    await ended(answer)
    await answers.close()
    (line,) = lines(caplog)
    assert (line["outcome"], line.get("error"), line["chars"]) == (outcome, error, 1)


async def test_one_whose_model_was_never_asked_is_told_of_too(answers_of: Open, caplog: Any) -> None:
    caplog.set_level("INFO", "app.usage")
    answers = await answers_of("a")
    answer = await ask(answers, QUESTION, "me")
    await answer.stop()  # before its run had a turn
    await ended(answer)
    await answers.close()
    (line,) = lines(caplog)
    assert (line["outcome"], line["chars"], "first_piece_seconds" in line) == ("stopped", 0, False)


def test_who_reads_an_answer_that_is_there_has_come_back(client: TestClient, caplog: Any) -> None:
    """Be it by its address, or by its `Idempotency-Key`. Who has read all of it, or stops it, reads nothing."""
    caplog.set_level(logging.DEBUG, "app.telemetry")

    def came_back() -> int:
        return [record.message for record in caplog.records].count("a reader came back")

    key = {"Idempotency-Key": "k"}
    path = client.post("/chat/stream", json=HI, headers=key).headers["location"]
    assert came_back() == 0
    assert client.post("/chat/stream", json=HI, headers=key).headers["location"] == path
    assert came_back() == 1
    assert client.get(path).status_code == 200
    assert came_back() == 2
    assert client.get(path, headers={"Last-Event-ID": "4"}).status_code == 204
    assert client.delete(path).status_code == 202
    assert came_back() == 2

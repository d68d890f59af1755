import asyncio
from collections.abc import Callable
from time import monotonic

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from app.chat.providers.base import Provider
from app.error_handlers import Refusals, install
from app.errors import AppError, Conflict, NotFound, TooMany, Unavailable
from app.settings import Settings
from tests.providers import ScriptedProvider


@pytest.mark.parametrize(("error", "status"), [(NotFound, 404), (Conflict, 409), (Unavailable, 503)])
def test_each_error_has_its_status_and_says_why(error: type[AppError], status: int) -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    def fails() -> None:
        raise error("why")

    response = TestClient(app).get("/")
    assert (response.status_code, response.json()) == (status, {"detail": "why"})
    assert ("retry-after" in response.headers) == (status == 503)


def test_each_refusal_by_a_limit_is_told_once_by_the_limits_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    app = FastAPI()
    install(app)
    errors = [TooMany("no", limit="a caller's", quota=1), Unavailable("no", limit="of all"), Unavailable("away")]

    @app.get("/{number}")
    def fails(number: int) -> None:
        raise errors[number]

    client = TestClient(app)
    assert [client.get(f"/{number}").status_code for number in range(3)] == [429, 503, 503]
    refusals = [vars(record)["limit"] for record in caplog.records if record.message == "refused"]
    assert refusals == ["a caller's", "of all"]


def test_few_faults_are_named_and_in_few_words() -> None:
    app = FastAPI()
    install(app)

    @app.post("/")
    def takes(body: dict[str, int]) -> None: ...

    response = TestClient(app).post("/", json={f"{number}" + "x" * 1000: "?" for number in range(1000)})
    assert (response.status_code, len(response.json()["detail"])) == (422, 10)
    assert len(response.content) < 10_000


def test_a_body_that_is_no_json_is_a_422_and_a_400_of_a_route_stays_what_it_is() -> None:
    app = FastAPI()
    install(app)

    @app.post("/")
    def takes(body: list[int]) -> None:
        try:
            body.index(2)
        except ValueError as error:
            raise HTTPException(400, "there is no 2") from error

    client = TestClient(app)
    for body in (b"\xff", b"[" + b"1" * 5000 + b"]", b"[" * 100_000):
        response = client.post("/", content=body, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["detail"][0]["type"]) == (422, "json_invalid")
    response = client.post("/", json=[1])
    assert (response.status_code, response.json()) == (400, {"detail": "there is no 2"})


def test_an_unexpected_error_is_a_500_with_a_request_id_and_without_its_text(
    settings: Settings, build: Callable[[Settings, Provider], FastAPI], caplog: pytest.LogCaptureFixture
) -> None:
    app = build(settings, ScriptedProvider())

    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError("the secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/fails")
    assert (response.status_code, response.json()) == (500, {"detail": "internal error"})
    assert response.headers["x-request-id"]
    assert "GET '/fails' failed" in caplog.text


async def test_who_is_refused_is_told_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """So whoever asks again at once does not take all of the process's time."""
    monkeypatch.setattr("app.error_handlers.REFUSED_A_SECOND", 20)
    refusals, began = Refusals(), monotonic()
    await asyncio.gather(*(refusals.wait_turn() for _ in range(4)))
    assert monotonic() - began >= 3 / 20 - 0.01


async def test_nobody_waits_for_a_turn_that_is_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection would be one of many."""
    monkeypatch.setattr("app.error_handlers.REFUSED_A_SECOND", 1 / 3600)
    refusals = Refusals()
    await asyncio.wait_for(asyncio.gather(*(refusals.wait_turn() for _ in range(100))), 60)

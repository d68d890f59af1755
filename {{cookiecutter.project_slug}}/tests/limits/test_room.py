"""Limits as the service has them, for those who call it."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from app.chat.answer_settings import AnswerSettings
from app.chat.room import chat
from app.limits.room import limits
from app.limits.settings import LimitSettings
from app.main import create_app
from app.settings import Settings
from tests.providers import ScriptedProvider
from tests.server import ROOT

ASK = {"question": "Hi"}


@pytest.fixture
def few(
    settings: Settings,
    provider: ScriptedProvider,
    limit_settings: Callable[[int], LimitSettings],
    answer_settings: Callable[..., AnswerSettings],
) -> TestClient:
    return TestClient(create_app(settings, [chat(provider, answer_settings()), limits(limit_settings(2))]))


def test_more_is_refused_before_the_model_is_asked_and_a_repeat_is_not(
    few: TestClient, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with few as client:
        answers = [client.post("/chat/stream", json=ASK, headers={"Idempotency-Key": f"{key}"}) for key in range(2)]
        refused = client.post("/chat/stream", json=ASK, headers={"Idempotency-Key": "more"})
        again = [client.post("/chat/stream", json=ASK, headers={"Idempotency-Key": f"{key}"}) for key in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.headers["X-Stream-ID"] for answer in again] == [a.headers["X-Stream-ID"] for a in answers]
        assert (refused.status_code, len(provider.asked)) == (429, 2)
        assert "try again in" in refused.json()["detail"]
        assert refused.headers["RateLimit-Policy"] == '"requests";q=2;w=60'
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        (line,) = (vars(record) for record in caplog.records if record.message == "refused")
        assert line["limit"] == "requests"
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_an_application_that_runs_again_has_its_limit(few: TestClient) -> None:
    for _ in range(2):
        with few as client:
            statuses = [client.post("/chat/stream", json=ASK).status_code for _ in range(3)]
    assert statuses[-1] == 429


def test_without_a_limit_the_library_is_not_even_imported(server_env: dict[str, str]) -> None:
    """Nobody needs it then."""
    names = "import sys, app.main; print(*sorted({'limits', 'app.limits.room'} & sys.modules.keys()))"
    env = {**os.environ, **server_env}
    done = subprocess.run([sys.executable, "-c", names], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "app.limits.room"), done.stderr

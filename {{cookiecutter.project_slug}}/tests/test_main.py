from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.chat.providers.base import Provider
from app.settings import EnvSettings, Settings
from tests.providers import ScriptedProvider
from tests.sse import names


@pytest.mark.parametrize(
    "path",
    [
        "/stream",
        "/chat/stream",
    ],
)
def test_the_docs_describe_the_event_streams(client: TestClient, path: str) -> None:
    (operation,) = client.get("/openapi.json").json()["paths"][path].values()
    described = operation["responses"]["200"]
    assert list(described["content"]) == ["text/event-stream"]
    assert "`done`" in described["description"]
    assert names(described["content"]["text/event-stream"]["example"])[-1] == "done"


def test_a_misspelt_setting_is_warned_of(
    build: Callable[[Settings, Provider], FastAPI],
    settings: Settings,
    provider: ScriptedProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "env").write_text("API_KEYS=k")
    monkeypatch.setitem(EnvSettings.model_config, "env_file", tmp_path / "env")
    build(settings, provider)
    assert ".env has API_KEYS, which is no setting; API_KEY is" in caplog.text


def test_an_open_server_warns(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    assert client.get("/health").status_code == 200
    assert any("API_KEY is empty" in record.message for record in caplog.get_records("setup"))


def test_a_client_without_a_lifespan_is_told_what_it_needs(
    build: Callable[[Settings, Provider], FastAPI], settings: Settings, provider: ScriptedProvider
) -> None:
    with pytest.raises(RuntimeError, match="the lifespan has not begun"):
        TestClient(build(settings, provider)).get("/health")

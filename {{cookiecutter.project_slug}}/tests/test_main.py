import gc
from collections.abc import Callable, Iterator
from inspect import isasyncgenfunction, iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from app.callers.guard import is_open
from app.chat.providers.base import Provider
from app.main import app, create_app
from app.settings import EnvSettings, Settings
from tests.callers.knowing import KNOWN
from tests.providers import ScriptedProvider
from tests.sse import names

OPEN = {("GET", "/"), ("mounted", "/web"), ("GET", "/health"), ("GET", "/ready")}
DOCS = {("GET", path) for path in ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")}


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
    (tmp_path / "env").write_text("DRAIN_SECOND=1")
    monkeypatch.setitem(EnvSettings.model_config, "env_file", tmp_path / "env")
    build(settings, provider)
    assert "/env has DRAIN_SECOND, which is no setting; DRAIN_SECONDS is" in caplog.text


def opened(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of each route that needs no token. HEAD is GET without a body."""
    found = set()
    for route in iter_route_contexts(app.routes):
        for method in route.methods or {"mounted"}:
            path = str(route.path) + ("/file" if method == "mounted" else "")
            if is_open({"type": "http", "app": app, "path": path, "method": method}):
                found.add(("GET" if method == "HEAD" else method, str(route.path)))
    return found


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_these_are_open_to_all_and_nothing_else(
    environment: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    app = create_app(settings.model_copy(update={"environment": environment}), callers=KNOWN)
    assert opened(app) == OPEN | (set() if environment == "production" else DOCS)


def test_an_open_server_warns(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    assert client.get("/health").status_code == 200
    assert any("whoever reaches this server may use it" in record.message for record in caplog.get_records("setup"))


def test_a_client_without_a_lifespan_is_told_what_it_needs(
    build: Callable[[Settings, Provider], FastAPI], settings: Settings, provider: ScriptedProvider
) -> None:
    with pytest.raises(RuntimeError, match="the lifespan has not begun"):
        TestClient(build(settings, provider)).get("/health")


def bodies(client: TestClient) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each path that takes JSON by POST, and the schema of that."""
    docs = client.get("/openapi.json").json()
    for path, operations in docs["paths"].items():
        for method, operation in operations.items():
            if method == "post" and (body := operation.get("requestBody")):
                yield path, resolved(body["content"]["application/json"]["schema"], docs)


def resolved(schema: Any, docs: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [resolved(each, docs) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if ref := schema.get("$ref"):
        return resolved(docs["components"]["schemas"][ref.rpartition("/")[2]], docs)
    return {name: resolved(each, docs) for name, each in schema.items()}


def unbounded_lists(schema: Any, at: str = "") -> Iterator[str]:
    if isinstance(schema, dict):
        if schema.get("type") == "array" and "maxItems" not in schema:
            yield at
        for name, each in schema.items():
            yield from unbounded_lists(each, f"{at}.{name}")
    elif isinstance(schema, list):
        for each in schema:
            yield from unbounded_lists(each, at)


def test_every_list_of_a_body_has_a_largest_length(client: TestClient) -> None:
    found = dict(bodies(client))
    assert {path: list(unbounded_lists(schema)) for path, schema in found.items()} == {path: [] for path in found}


def test_the_answer_to_a_body_full_of_faults_is_small(client: TestClient) -> None:
    lists = [
        (path, name)
        for path, schema in bodies(client)
        for name, field in schema["properties"].items()
        if field.get("type") == "array"
    ]
    assert lists
    for path, name in lists:
        response = client.post(path, json={"question": "x", name: [{}] * 200_000})
        assert response.status_code in (400, 422)
        assert len(response.content) < 2000, path


def test_no_dependency_takes_a_thread() -> None:
    """FastAPI runs a plain function in one of 40, and callers would wait for each other."""

    def calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
        for each in dependant.dependencies:
            yield from (call for call in [each.call] if call)
            yield from calls(each)

    found = {
        call for route in iter_route_contexts(app.routes) for call in calls(getattr(route, "dependant", Dependant()))
    }
    assert len(found) > 3
    assert [call for call in found if not (iscoroutinefunction(call) or isasyncgenfunction(call))] == []


def test_garbage_is_not_looked_for_in_what_is_there_from_the_start() -> None:
    assert gc.get_freeze_count() > len(app.routes)

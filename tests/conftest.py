"""What all tests share: one copy of the template and one render of each variant, for the whole run."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rendering import (
    ROOT,
    Answers,
    Project,
    bake,
    choices,
    combinations,
    exclusive,
    named,
    snapshot,
    two_or_slow,
    varied,
)

pytest_plugins = ["needs", "rabbitmq"]
# The hooks are modules to the tests.
sys.path.insert(0, str(ROOT / "hooks"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run see: each pytest-xdist worker has its own base folder inside it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def template(shared: Path) -> Path:
    """The template as a clone would have it."""
    copy = shared / "template"
    with exclusive(shared / "template.lock"):
        return copy if copy.exists() else snapshot(copy)


@pytest.fixture(scope="session")
def render(shared: Path, template: Path) -> Callable[..., Project]:
    """`render(queue_backend="rq")`: that variant, its dependencies locked; one project for all who ask."""

    def render(**chosen: str) -> Project:
        answers = {**combinations()[0], **chosen}
        output_dir = shared / f"render-{named(answers)}"
        with exclusive(output_dir.with_suffix(".lock")):
            if output_dir.exists():
                return Project(output_dir / "my-chat", answers)
            return bake(output_dir, answers, template)

    return render


@pytest.fixture(scope="session", params=two_or_slow(choices("queue_backend")))
def queue(request: pytest.FixtureRequest) -> str:
    """Each queue that can be chosen."""
    return str(request.param)


@pytest.fixture(scope="session", params=varied(), ids=named)
def variant(request: pytest.FixtureRequest) -> Answers:
    """Each queue, with a model and a front end that change from one to the next."""
    answers: Answers = request.param
    return answers

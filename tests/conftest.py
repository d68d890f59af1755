"""What all tests share: one copy of the template and one render of each variant, for the whole run."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rendering import (
    ROOT,
    Answers,
    Project,
    bake,
    combinations,
    exclusive,
    grouped,
    named,
    snapshot,
    varied,
)
from variants import VARIANTS

pytest_plugins = ["needs", "rabbitmq", "front_ends"]
# The hooks are modules to the tests.
sys.path.insert(0, str(ROOT / "hooks"))
# As is the receiver of what a project tells, which its own tests have too.
sys.path.append(str(VARIANTS / "opentelemetry" / "tests"))
# A run in the background of a shell ignores Ctrl-C, and what it starts would inherit that: some of it is ended by one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
            if not output_dir.exists():
                project = bake(output_dir, answers, template)
                output_dir.with_suffix(".said").write_text(project.said, "utf-8")
                untouched = emitted_to(shared, answers)
                with exclusive(untouched.with_suffix(".lock")):
                    if not untouched.exists():
                        shutil.copytree(output_dir, untouched)
            said = output_dir.with_suffix(".said").read_text("utf-8")
            return Project(output_dir / "my-chat", answers, said)

    return render


@pytest.fixture(scope="session")
def emitted(shared: Path, template: Path) -> Callable[[Answers], Project]:
    """A render of these answers that no tool has run in."""

    def emitted(answers: Answers) -> Project:
        output_dir = emitted_to(shared, answers)
        with exclusive(output_dir.with_suffix(".lock")):
            if output_dir.exists():
                return Project(output_dir / "my-chat", answers)
            # Nobody installs it, and so nobody locks it: to ask uv takes a third of a render's time.
            return bake(output_dir, answers, template, env={"PATH": os.devnull, "UV": ""})

    return emitted


def emitted_to(shared: Path, answers: Answers) -> Path:
    return shared / f"emitted-{named(answers)}"


@pytest.fixture(scope="session", params=grouped(varied()), ids=named)
def variant(request: pytest.FixtureRequest) -> Answers:
    """Each queue, with a model and a front end that change from one to the next."""
    answers: Answers = request.param
    return answers

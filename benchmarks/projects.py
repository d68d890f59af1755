"""Renders of the template that the benchmarks measure, each with an environment of its own."""

import contextlib
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import TroubleError

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
import dev  # noqa: E402 - it renders a project as its own demo does

STEP = "[benchmark]"
NETWORK = "check the network if a download failed"


@contextmanager
def troubles(kind: type[Exception]) -> Iterator[None]:
    """What another part of the repo says went wrong, as the benchmarks say it."""
    try:
        yield
    except kind as error:
        raise TroubleError(str(error)) from error


def made(folder: Path, queue: str, *answers: str, change: Callable[[Path], None] | None = None) -> Path:
    """The project in this folder: made there unless there is one, changed as the benchmark needs it, and synced.

    `answers` are those of the other questions, such as `model_provider=openai`.
    """
    project = folder / "my-chat"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr), troubles(dev.TroubleError):
        env = uv_environment()
        if not project.exists():
            dev.render(STEP, folder, queue, env, *answers)
        if change:
            change(project)
        sync = [env["UV"], "sync", "--quiet", "--locked"]
        dev.run(f"{STEP} installing its dependencies", sync, env, NETWORK, project)
    return project


def python_of(project: Path) -> Path:
    return dev.programs(project / ".venv") / "python"


def package(requirement: str, folder: Path) -> Path:
    """A package alone, without what it needs, for a project's `PYTHONPATH`: no project's environment gets it."""
    target = folder / requirement
    if not target.exists():
        with contextlib.redirect_stdout(sys.stderr), troubles(dev.TroubleError):
            env = uv_environment()
            install = [env["UV"], "pip", "install", "--quiet", "--no-deps", "--target", str(target), requirement]
            install += ["--python", sys.executable]
            dev.run(f"{STEP} installing {requirement}", install, env, NETWORK, folder)
    return target


def uv_environment() -> dict[str, str]:
    env = dev.environment(dev.find_uv(STEP))
    template = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return env | {"UV_EXCLUDE_NEWER": template["tool"]["uv"]["exclude-newer"]}

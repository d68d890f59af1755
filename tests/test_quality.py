"""Lint, format and types: of the template's own code, of the base tree where it lies, and of every render."""

import shutil
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rendering import Answers, Project, choices, exclusive, first_or_slow, in_order, named
from running import finds_nothing, posix_only, recipe
from subjects import Subject, with_imports
from variants import brought, folders

BASE = "{{cookiecutter.project_slug}}"
RECEIVER = f"{BASE}/_variants/opentelemetry/tests/otlp.py"  # which these tests use too
RUFF = [sys.executable, "-m", "ruff"]
MYPY = [sys.executable, "-m", "mypy"]


@pytest.fixture
def passes(shared: Path) -> Callable[..., None]:
    """`passes(*command, cwd=folder)`: it finds nothing."""
    return partial(finds_nothing, cache=shared / "mypy")


@pytest.fixture
def configuration(render: Callable[..., Project]) -> str:
    """The configuration of the base tree, which as it lies is no TOML: that of its own render."""
    return str(render().path / "pyproject.toml")


def test_the_templates_own_code_is_clean(template: Path, passes: Callable[..., None]) -> None:
    """dev.py, the hooks and these tests pass ruff, its formatter and mypy --strict."""
    passes(*RUFF, "check", cwd=template)
    passes(*RUFF, "format", "--check", cwd=template)
    own = [name for name in ("dev.py", "hooks", "tests", "benchmarks") if (template / name).exists()]
    passes(*MYPY, *own, RECEIVER, cwd=template)


def test_the_base_tree_is_clean_where_it_lies(template: Path, passes: Callable[..., None], configuration: str) -> None:
    """An editor that has the template open shows no finding in the emitted code."""
    lies = ("--config", configuration, "--exclude", "_variants,pyproject.toml")
    passes(*RUFF, "check", *lies, cwd=template / BASE)
    passes(*RUFF, "format", "--check", *lies, cwd=template / BASE)
    passes(*MYPY, "--config-file", configuration, "--exclude", "^_variants/", ".", cwd=template / BASE)


@pytest.mark.parametrize("folder", [folder for folder in folders() if brought(folder)])
def test_an_overlay_is_linted_where_it_lies(
    folder: str, template: Path, passes: Callable[..., None], configuration: str
) -> None:
    """Its types are those of a whole project: the test of each render checks them."""
    passes(*RUFF, "check", "--config", configuration, cwd=template / BASE / "_variants" / folder)
    passes(*RUFF, "format", "--check", "--config", configuration, cwd=template / BASE / "_variants" / folder)


@posix_only
@pytest.mark.parametrize("answers", first_or_slow(2, in_order()), ids=named)
def test_a_render_passes_its_own_checks(answers: Answers, render: Callable[..., Project], shared: Path) -> None:
    """Each line of `make check`, in the project's own environment: lint, format, and strict types.

    Types were checked before where each file stood beside the same files that it imports, in this render or that. They
    say what they take and give, and what one answer brings knows nothing of another's (tests/test_suites.py): there is
    nothing else that mypy could see here for the first time.
    """
    project = render(**answers)
    project.sync()
    assert tomllib.loads(project.read("pyproject.toml"))["tool"]["mypy"]["strict"] is True
    commands = recipe(project, "check")
    assert [command[2:4] for command in commands] == [["ruff", "check"], ["ruff", "format"], ["mypy", "."]]
    before = in_order()[: in_order().index(answers)]
    checked = frozenset[Subject]().union(*(with_imports(render(**each)) for each in before))
    if with_imports(project) <= checked:
        commands.remove(["uv", "run", "mypy", "."])
    cache = cache_of(answers["model_provider"], shared)
    for command in commands:
        finds_nothing(*command, cwd=project.path, cache=cache)


def cache_of(model: str, shared: Path) -> Path:
    """What mypy keeps of the renders with this model, at first what it has kept of others: where the client of a model
    is not installed, it forgets all about that, and to read it takes twice as long as the rest."""
    common, own = shared / "mypy", shared / f"mypy-{model}"
    if model == choices("model_provider")[0]:  # has no client
        return common
    with exclusive(common.with_suffix(".lock")):
        if common.exists() and not own.exists():
            shutil.copytree(common, own)
    return own

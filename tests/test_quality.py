"""Lint, format and types: of the template's own code, of the base tree where it lies, and of every render."""

import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from rendering import Answers, Project, first_or_slow, in_order, named
from running import finds_nothing, mypy_cache, posix_only, recipe
from subjects import with_imports
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

    The first two are checked as a whole. Of another, types are checked of each file that no render before it has beside
    the same files that it imports. All say what they take and give, and what one answer brings knows nothing of
    another's (tests/test_suites.py): there is nothing else that mypy could see here for the first time.
    """
    project = render(**answers)
    project.sync()
    assert tomllib.loads(project.read("pyproject.toml"))["tool"]["mypy"]["strict"] is True
    commands = recipe(project, "check")
    assert [command[2:4] for command in commands] == [["ruff", "check"], ["ruff", "format"], ["mypy", "."]]
    number = in_order().index(answers)
    if number > 1:
        checked = {each for before in in_order()[:number] for each in with_imports(render(**before)).values()}
        new = sorted(name for name, each in with_imports(project).items() if each not in checked)
        commands[2:] = [["uv", "run", "mypy", *new]] if new else []
    cache = mypy_cache(shared, answers["model_provider"])
    for command in commands:
        finds_nothing(*command, cwd=project.path, cache=cache)

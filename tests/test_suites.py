"""Each render's own tests, run as its README says."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rabbitmq import shared_url
from rendering import MADE_BY_TOOLS, Answers, Project, named, pairwise_or_slow, run
from running import posix_only, python_of, recipe, settings_of


@posix_only
@pytest.mark.parametrize("answers", pairwise_or_slow(), ids=named)
def test_a_renders_own_tests_pass_and_none_is_left_out(answers: Answers, render: Callable[..., Project]) -> None:
    """`make test` in a new project: all passed, nothing skipped, no service needed but what the project embeds, and a
    RabbitMQ where it has chosen one."""
    project = render(**answers)
    project.sync()
    ((*command,),) = recipe(project, "test")
    assert f"| `{' '.join(command)}` |" in project.read("README.md")
    env = {"TEST_REDIS_URL": ""}
    if "BROKER_URL" in settings_of(project):
        env["TEST_BROKER_URL"] = shared_url()
    done = project.run(*command, env=env)
    assert re.fullmatch(r"\d+ passed in .*", done.stdout.splitlines()[-1]), done.stdout


@posix_only
def test_a_renders_own_tests_read_no_env_file(render: Callable[..., Project], tmp_path: Path) -> None:
    """Whoever has settings of their own in `.env` sees the same tests pass: in the process, and by a server."""
    project = render(model_provider="openai")
    project.sync()
    made_by_tools = shutil.ignore_patterns(*MADE_BY_TOOLS)
    copy = shutil.copytree(project.path, tmp_path / "my-chat", ignore=made_by_tools)
    settings = {"API_KEY": "secret", "MODEL_PROVIDER": "openai", "OPENAI_API_KEY": "k", "DRAIN_SECONDS": "-1"}
    (copy / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
    tests = ("tests/chat", "tests/test_settings.py", "tests/test_middleware.py")
    served = "tests/test_served.py::test_the_first_token_is_read_before_the_last_is_made"
    done = run(python_of(project), "-m", "pytest", *tests, served, cwd=copy)
    assert re.fullmatch(r"\d+ passed in .*", done.stdout.splitlines()[-1]), done.stdout

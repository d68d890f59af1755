"""Each render's own tests, run as its README says."""

import re
from collections.abc import Callable

import pytest
from rabbitmq import shared_url
from rendering import Answers, Project, named, pairwise_or_slow
from running import posix_only, recipe, settings_of


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

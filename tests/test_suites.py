"""Each render's own tests, run as its README says."""

import re
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from rabbitmq import shared_url
from rendering import MADE_BY_TOOLS, Answers, Project, first_or_slow, in_order, named
from running import posix_only, recipe, settings_of
from subjects import Subject, imported, parts, subjects

MANY = 40  # files run side by side, as `make test` does: to start a process for each core takes as long as a few do
# Whatever the worker is, these are about scripts/dev.py, which is the same bytes with each queue: how it is told to
# stop, and what it does about a web server that does not start.
SCRIPT = "tests/jobs/test_dev.py"
OF_THE_SCRIPT = [
    f"{SCRIPT}::test_a_sigterm_in_the_midst_of_the_start_leaves_nothing_either",
    f"{SCRIPT}::test_when_one_process_ends_all_do",
    f"{SCRIPT}::test_a_wrong_setting_stops_the_start_with_its_name",
]
# Settings of an owner's own, with which other servers than those of the tests would ask for keys or not start.
DOT_ENV = "API_KEY=secret\nMODEL_PROVIDER=openai\nOPENAI_API_KEY=k\nDRAIN_SECONDS=-1\n"


@posix_only
@pytest.mark.parametrize("answers", first_or_slow(2, in_order()), ids=named)
def test_a_renders_own_tests_pass_and_none_is_left_out(
    answers: Answers, render: Callable[..., Project], pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """`make test` in a new project: all passed, nothing skipped, no service needed but what the project embeds, and a
    RabbitMQ where it has chosen one.

    The first render runs whole; where slow tests run, that is the one with RQ. Of each other one, those files run whose
    subjects are not byte for byte those of files in the renders before it; of what is scripts/dev.py's own, one runs
    with each.

    The first and every second behind it runs where its owner has settings in `.env`: no test reads them, nor a server
    that one starts.
    """
    project = render(**answers)
    project.sync()
    ((*command,),) = recipe(project, "test")
    assert f"| `{' '.join(command)}` |" in project.read("README.md")
    first, second, *others = in_order()
    several = [second, first, *others] if pytestconfig.getoption("--slow") else [first, second, *others]
    if number := several.index(answers):
        earlier = [render(**before) for before in several[:number]]
        shown = set[Subject]().union(*(each for before in earlier for each in subjects(before).values()))
        differing = sorted(test for test, each in subjects(project).items() if not each <= shown)
        assert differing, "the same was rendered before"
        command += differing if len(differing) >= MANY else ["-n0", *differing]
    if number >= 2:
        command += [f"--deselect={name}" for name in OF_THE_SCRIPT]
    env = {"TEST_REDIS_URL": ""}
    if "BROKER_URL" in settings_of(project):
        env["TEST_BROKER_URL"] = shared_url()
    if number % 2 == 0:  # in a copy, for other tests serve the project from its folder
        made_by_tools = shutil.ignore_patterns(*(MADE_BY_TOOLS - {"uv.lock", "__pycache__"}))
        env["UV_PROJECT_ENVIRONMENT"] = str(project.path / ".venv")
        project = Project(shutil.copytree(project.path, tmp_path / "my-chat", ignore=made_by_tools), project.answers)
        (project.path / ".env").write_text(DOT_ENV, "utf-8")

    done = project.run(*command, env=env)
    # Of what is left out by its name, pytest-xdist does not tell.
    deselected = f"(, {len(OF_THE_SCRIPT)} deselected)?" if number >= 2 else ""
    assert re.fullmatch(rf"\d+ passed{deselected} in .*", done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.xdist_group("subjects")  # which read the same project
@pytest.mark.parametrize(
    ("changed", "again", "not_again"),
    [
        ("app/worker.py", {"tests/jobs/test_dev.py", "tests/jobs/test_worker.py"}, {"tests/streams/test_events.py"}),
        ("app/streams/events.py", {"tests/streams/test_events.py", "tests/test_served.py"}, {"tests/jobs/test_job.py"}),
        ("app/page.py", {"tests/test_page.py", "tests/test_main.py"}, {"tests/streams/test_events.py"}),
        ("app/chat/front_ends.py", {"tests/test_errors.py", "tests/test_main.py"}, {"tests/jobs/test_worker.py"}),
        ("app/jobs/store.py", {"tests/jobs/test_routes.py", "tests/test_health.py"}, {"tests/chat/test_generation.py"}),
        ("tests/sse.py", {"tests/test_served.py", "tests/streams/test_events.py"}, {"tests/jobs/test_job.py"}),
        ("app/worker.py", {"tests/jobs/test_routes.py"}, {"tests/jobs/test_store.py", "tests/jobs/test_relay.py"}),
        (
            "tests/jobs/backing.py",
            {"tests/jobs/test_store.py", "tests/jobs/test_queue.py", "tests/jobs/test_dev.py"},
            {"tests/test_served.py"},
        ),
        ("scripts/dev.py", {"tests/jobs/test_dev.py"}, {"tests/jobs/test_worker.py"}),
        ("app/callers/known.py", {"tests/test_served.py", "tests/jobs/test_untold.py"}, {"tests/jobs/test_dev.py"}),
    ],
)
def test_a_file_of_tests_runs_again_where_its_subject_differs(
    changed: str, again: set[str], not_again: set[str], render: Callable[..., Project], tmp_path: Path
) -> None:
    """What it imports, what its helpers and fixtures import, and what it names as a file."""
    project = render(queue_backend="rq")
    made_by_tools = shutil.ignore_patterns(*MADE_BY_TOOLS)
    copy = Project(shutil.copytree(project.path, tmp_path / "my-chat", ignore=made_by_tools), project.answers)
    with (copy.path / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    differing = {test for test, each in subjects(project).items() if each != subjects(copy)[test]}
    assert again <= differing
    assert not not_again & differing


def test_what_answers_bring_imports_nothing_of_each_other(
    variant: Answers, emitted: Callable[[Answers], Project]
) -> None:
    """So the tests of one are not about the other, and need not run again with each answer to the other's question.

    All may tell `app/telemetry.py` of what they do: a test that looks at what is told names it, and so is about that.
    """
    project = emitted(variant)
    found = []
    for part, other in permutations(parts({*project.files()}), 2):
        assert part
        others = other - {"app/telemetry.py"}
        found += [(name, each) for name in part if name.endswith(".py") for each in imported(project, name) & others]
    assert found == []

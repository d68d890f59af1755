"""A project keeps up with the template that it was made from."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rendering import run

BASE = "{{cookiecutter.project_slug}}"
Command = Callable[..., str]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`command(*words, cwd=folder)` gives what it printed. git and cruft know nothing of this machine's user."""
    (tmp_path / "home").mkdir()
    identity = "[user]\nname = Ada\nemail = ada@example.com\n[init]\ndefaultBranch = main\n"
    (tmp_path / "gitconfig").write_text(identity, "utf-8")
    env = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1", "TMPDIR": str(tmp_path)}

    def command(*words: str, cwd: Path) -> str:
        done = run(*words, cwd=cwd, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return command


def commit(folder: Path, message: str, command: Command) -> None:
    if not (folder / ".git").exists():
        command("git", "init", "--quiet", cwd=folder)
    command("git", "add", "--all", cwd=folder)
    command("git", "commit", "--quiet", "--message", message, cwd=folder)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} in {path}"
    path.write_text(text.replace(old, new), "utf-8", newline="\n")


# With an overlay that changes, and without one: of such a project, less changes, and tests/test_tree.py holds that it
# gets no file of another queue's.
@pytest.mark.parametrize("queue", ["rq", pytest.param("none", marks=pytest.mark.slow)])
def test_an_update_of_the_template_reaches_a_project_that_was_changed(
    queue: str, template: Path, tmp_path: Path, command: Command
) -> None:
    """What the user locked and edited stays, what the template changed arrives, and nothing is left to mend."""
    origin = tmp_path / "template"
    shutil.copytree(template, origin)
    commit(origin, "A template", command)
    config = tmp_path / "config.yaml"
    config.write_text(template.with_suffix(".yaml").read_text("utf-8"), "utf-8")
    cruft = (sys.executable, "-m", "cruft")
    # As cookiecutter keeps it: what is given to it is a template, so each update renders it again.
    answers = json.dumps({"queue_backend": queue, "description": "Says {{ '{' }}{{ '{' }} name }}"})
    created = ("create", str(origin), "--config-file", str(config), "--extra-context", answers, "--no-input")
    command(*cruft, *created, "--output-dir", str(tmp_path), cwd=tmp_path)
    project = tmp_path / "my-chat"
    assert "\nSays {{ name }}\n" in (project / "README.md").read_text("utf-8")
    commit(project, "A project", command)

    command("uv", "lock", cwd=project)
    lock = (project / "uv.lock").read_text("utf-8")
    edit(project / "app" / "chat" / "providers" / "echo.py", 'f"You said: ', 'f"I heard: ')
    edit(project / "pyproject.toml", 'version = "0.1.0"', 'version = "2.0.0"')
    commit(project, "An edit", command)

    edit(origin / BASE / "pyproject.toml", "dependencies = [\n", 'dependencies = [\n    "anyio~=4.0",\n')
    edit(origin / BASE / "app" / "health.py", 'get("/health"', 'get("/healthz"')
    (origin / BASE / "app" / "news.py").write_text('NEWS = "none"\n', "utf-8")
    added = origin / BASE / "_variants" / "rq" / "app" / "workers.py"
    added.write_text('WORKERS = "some"\n', "utf-8")
    commit(origin, "A change", command)
    command(*cruft, "update", "--skip-apply-ask", cwd=project)

    changed = command("git", "status", "--porcelain", "--untracked-files=all", cwd=project).split("\n")
    added_here = ["app/news.py", *(["app/workers.py"] if queue == "rq" else [])]
    assert {line[3:] for line in changed if line} == {".cruft.json", "app/health.py", "pyproject.toml", *added_here}
    assert '"/healthz"' in (project / "app" / "health.py").read_text("utf-8")
    assert 'f"I heard: ' in (project / "app" / "chat" / "providers" / "echo.py").read_text("utf-8")
    metadata = (project / "pyproject.toml").read_text("utf-8")
    assert '"anyio~=4.0"' in metadata
    assert 'version = "2.0.0"' in metadata
    assert (project / "uv.lock").read_text("utf-8") == lock
    assert not (project / "_variants").exists()
    command(*cruft, "check", cwd=project)
    commit(project, "The update", command)

"""The hooks: what they refuse, what they make, and what they say."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import post_gen_project
import pre_gen_project
import pytest
from rendering import QUESTIONS, Answers, Project, asked, bake, choices, cookiecutter, environment
from variants import OVERLAYS, VARIANTS, chosen, folders, part

GOOD = {
    "__typed_slug": "my-chat",
    "_windows_devices": QUESTIONS["_windows_devices"],
    "_dependencies": QUESTIONS["_dependencies"],
    "project_name": "My Chat",
    "description": "It chats",
    "author_name": "Ada",
}


def refusals(**answers: str) -> list[str]:
    return list(pre_gen_project.refusals(GOOD | answers))


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("slug", ["a", "my-chat", "a1", "gpt4", "a--b", "rq-chat", "console", "com10", "x" * 63])
def test_a_good_slug_is_taken(slug: str) -> None:
    assert refusals(__typed_slug=slug) == []


@pytest.mark.parametrize(
    "slug",
    [
        *["", "-", "-chat", "chat-", "3d-chat", "My-Chat", "my chat", " chat", "chat ", "my_chat", "chat\n", "ünï"],
        *[".", "..", "../evil", "a/b", r"a\b", "/tmp/evil", "C:evil", "~", "x" * 64],
        *["con", "prn", "aux", "nul", "com1", "com9", "lpt1", "lpt9"],
    ],
)
def test_a_bad_slug_is_refused_with_one_sentence_that_says_what_is_allowed(slug: str) -> None:
    (sentence,) = refusals(__typed_slug=slug)
    assert sentence.startswith(
        f"project_slug cannot be {slug!r}: it must be 1 to 63 lower-case letters, digits and hyphens"
    )
    assert sentence.count(".") - slug.count(".") == 1
    assert "\n" not in sentence


@pytest.mark.parametrize("question", ["project_name", "description", "author_name"])
@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\udcff"])
def test_line_breaks_and_control_characters_are_refused_by_name(question: str, character: str) -> None:
    (sentence,) = refusals(**{question: f"one{character}two"})
    assert sentence == f"{question} must be one line of text, without line breaks or control characters."


@pytest.mark.parametrize("slug", ["fastapi", "pydantic-settings", "pydantic--settings", "rq"])
def test_no_project_bears_the_name_of_a_dependency(slug: str) -> None:
    """Of its own, that is: uv would refuse to lock it. uv takes two hyphens for one."""
    (sentence,) = refusals(__typed_slug=slug)
    assert sentence.startswith(f"project_slug cannot be {slug!r}: ")


def test_every_dependency_of_some_project_is_known() -> None:
    """By each variant's part of pyproject.toml. cookiecutter.json can't read them."""
    base = VARIANTS.parent / "pyproject.toml"
    texts = [path.read_text("utf-8") for path in (base, *VARIANTS.glob("*/_parts/pyproject/*.toml"))]
    found = {name for text in texts for name in re.findall(r'^ +"([a-z0-9-]+)[^"]*[~=<>]', text, re.MULTILINE)}
    assert QUESTIONS["_dependencies"].split() == sorted(found)


def test_a_refused_slug_leaves_the_other_answers_to_one_command(template: Path, tmp_path: Path) -> None:
    """Whoever has answered everything before the refusal need not do it again."""
    answers = {"project_name": "An 'odd' {{ name }}", "project_slug": "Bad Slug", "description": "{% x %} says {# y"}
    refused = cookiecutter(tmp_path, {**answers, "queue_backend": "2"}, template, typed=True)
    assert refused.returncode == 1
    sentence, invitation, command, *_ = refused.stderr.splitlines()
    assert sentence.startswith("project_slug cannot be 'Bad Slug'")
    assert invitation == "To be asked again, with your other answers as defaults:"
    program, source, *arguments = shlex.split(command)
    assert (program, source) == ("cookiecutter", str(template))
    taken = cookiecutter(tmp_path, {}, template, *arguments, typed=True, env={"UV_OFFLINE": "1"})
    assert taken.returncode == 0, taken.stderr
    project = Project(tmp_path / "an-odd-name", answers)
    assert project.read("README.md").startswith(f"# {answers['project_name']}\n\n{answers['description']}\n")
    assert "rq~=" in project.read("pyproject.toml")


@pytest.mark.parametrize("slug", ["../evil", "../evil/x", "{tmp}/evil/x", "a/b/c", "..", "Bad", "fastapi"])
def test_a_refused_project_leaves_nothing_anywhere(slug: str, template: Path, tmp_path: Path) -> None:
    """Neither in the output folder nor beside it, and what was there is not touched."""
    (tmp_path / "neighbour").mkdir()
    output_dir = tmp_path / "out"
    (output_dir / "a").mkdir(parents=True)
    before = tree(tmp_path)
    done = cookiecutter(output_dir, {"project_slug": slug.format(tmp=tmp_path)}, template, typed=True)
    assert done.returncode == 1
    assert done.stderr.startswith("project_slug cannot be ")
    assert '_gen_project.py", line' not in done.stderr
    after = tree(tmp_path)
    assert after.pop("out") >= before.pop("out")
    assert after == before


@pytest.mark.parametrize("answers", [{"author_name": "two\nlines"}, {"description": "bell\a"}])
def test_a_refused_text_leaves_no_project(answers: dict[str, str], template: Path, tmp_path: Path) -> None:
    done = cookiecutter(tmp_path, answers, template)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{next(iter(answers))} must be one line of text")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(template: Path, tmp_path: Path) -> None:
    """With --overwrite-if-exists too, when the answers are refused."""
    (tmp_path / "my-chat").mkdir()
    (tmp_path / "my-chat" / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    assert cookiecutter(tmp_path, {}, template).returncode == 1
    assert cookiecutter(tmp_path, {"author_name": "two\nlines"}, template, "--overwrite-if-exists").returncode == 1
    assert tree(tmp_path) == before


def test_every_choice_has_its_overlays() -> None:
    lists = {question: choices(question) for question in asked() if isinstance(QUESTIONS[question], list)}
    assert {question: list(chains) for question, chains in OVERLAYS.items()} == lists


def test_every_overlay_is_a_folder_and_every_folder_an_overlay() -> None:
    assert folders() == sorted(path.name for path in VARIANTS.iterdir())


def test_a_later_overlay_wins_and_no_overlay_remains(tmp_path: Path) -> None:
    """Each is laid over the tree in its order; files that none of them has stay."""
    for name, text in {
        "base.py": "base",
        "app/store.py": "base",
        "app/backend.py": "base",
        "_variants/first/app/store.py": "first",
        "_variants/first/_parts/part.py": "first",
        "_variants/first/app/backend.py": "first",
        "_variants/second/app/backend.py": "second",
        "_variants/second/new/file.py": "second",
        "_variants/other/base.py": "other",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    post_gen_project.overlay(tmp_path, ["first", "second"])
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.py")}
    assert found == {"base.py": "base", "app/store.py": "first", "app/backend.py": "second", "new/file.py": "second"}
    assert not (tmp_path / "_variants").exists()


def test_a_render_is_locked_and_says_what_to_do_next(variant: Answers, render: Callable[..., Project]) -> None:
    """What was made, the commands, a key where the model wants one, and the address; no overlays and no git left."""
    project = render(**variant)
    said = project.said.splitlines()
    model = variant["model_provider"]
    parts = [part(folder, "key") for folder in chosen(variant)]
    keys = [path.read_text("utf-8").strip() for path in parts if path.exists()]
    asked = f"queue {variant['queue_backend']}, model {model}, front end {variant['front_end']}"
    assert said[0] == f"Made my-chat: {asked}, callers by {variant['auth']}, telemetry {variant['telemetry']}."
    assert [line.split("#")[0].strip() for line in said if line.startswith("  ")] == [
        f"cd {shlex.quote(str(project.path))}",
        "uv sync",
        *(f"echo {key}=sk-... >> .env" for key in keys),
        "make dev",
    ]
    if model != "echo":
        assert "# to begin without a key: echo MODEL_PROVIDER=echo >> .env" in project.said
        (key,) = keys
        assert f"#{key}=\n" in project.read(".env.example")
    assert ("needs a RabbitMQ" in project.said) == ("rabbitmq" in variant["queue_backend"])
    plain = re.search(r"without make: (.*)", project.said)
    assert plain, project.said
    assert f"`{plain[1]}`" in project.read("README.md")
    assert said[-1].endswith("http://127.0.0.1:8000")
    assert "No uv.lock yet" not in project.said
    assert (project.path / "uv.lock").exists()
    assert not (project.path / "_variants").exists()
    assert not (project.path / ".git").exists()


def test_the_project_is_called_by_its_name_where_the_shell_stands_beside_it(template: Path, tmp_path: Path) -> None:
    done = cookiecutter(tmp_path, {}, template, env={"PWD": str(tmp_path), "UV_OFFLINE": "1"})
    assert "\n  cd my-chat\n" in done.stdout


def test_an_index_out_of_reach_leaves_the_lock_for_later(template: Path, tmp_path: Path) -> None:
    """It says why and what to run, soon, and the project is there."""
    began = time.monotonic()
    closed = "http://127.0.0.1:9/simple"
    done = cookiecutter(
        tmp_path, {}, template, env={"UV_DEFAULT_INDEX": closed, "UV_CACHE_DIR": str(tmp_path / "cache")}
    )
    assert time.monotonic() - began < 30
    assert done.returncode == 0
    assert f"No uv.lock yet: Failed to fetch: {closed}" in done.stdout
    assert "run: uv lock\n" in done.stdout
    assert (tmp_path / "my-chat" / "pyproject.toml").exists()
    assert not (tmp_path / "my-chat" / "uv.lock").exists()


def test_without_uv_the_project_is_made_all_the_same(template: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = cookiecutter(tmp_path, {}, template, env={"UV": "", "PATH": str(tmp_path / "empty")})
    assert done.returncode == 0
    assert "No uv.lock yet: uv was not found" in done.stdout
    assert "run: uv lock\n" in done.stdout
    assert (tmp_path / "my-chat" / "pyproject.toml").exists()


# `python lock --quiet` runs the file `lock`: a stand-in for uv that needs no executable script, on Windows either.
@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UV", sys.executable)
    return tmp_path / "lock"


def test_uv_is_asked_once_quietly_and_outside_any_virtual_environment(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "elsewhere")
    monkeypatch.setenv("UV_CACHE_DIR", "kept")
    stand_in.write_text(
        "import os, sys; open('seen', 'a').write(repr((sys.argv, "
        "[os.environ.get(name) for name in ('UV_HTTP_RETRIES', 'VIRTUAL_ENV', 'UV_CACHE_DIR')])))"
    )
    assert post_gen_project.lock(tmp_path) is None
    assert (tmp_path / "seen").read_text() == "(['lock', '--quiet'], ['1', None, 'kept'])"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('error: no such package\\n  cause: a name')", "no such package"),
        (
            "import sys; sys.exit('error: no solution\\n  cause: long\\n\\nhint: rename it')",
            "no solution hint: rename it",
        ),
        (
            "import sys; sys.exit('error: Request failed after 1 retry in 1.4s\\n  cause: Failed to fetch: it')",
            "Failed to fetch: it",
        ),
        ("import sys; sys.exit(3)", "uv ended with status 3"),
        ("import time; time.sleep(60)", "uv did not finish within 0.5 seconds"),
        ("import os; os.write(2, b'\\xff'); raise SystemExit(1)", "\ufffd"),
    ],
)
def test_a_lock_that_fails_is_told_in_a_line(code: str, said: str, stand_in: Path, tmp_path: Path) -> None:
    """The first line of what uv said, and its hint; a limit on how long it may take."""
    stand_in.write_text(code)
    assert post_gen_project.lock(tmp_path, seconds=0.5 if "sleep" in code else 30) == said


def test_a_uv_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv").write_bytes(b"\x7fELF not quite")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    said = post_gen_project.lock(tmp_path)
    assert said is not None
    assert said.startswith("uv did not start: ") or os.name == "nt"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to a group")
def test_ctrl_c_while_locking_keeps_the_project(template: Path, tmp_path: Path) -> None:
    """The terminal interrupts cookiecutter, the hook and uv at once: the hook treats it as a lock left for later."""
    slow = tmp_path / "uv"
    slow.write_text(f"#!{sys.executable}\nimport time\nopen('{tmp_path}/asked', 'w').close()\ntime.sleep(60)\n")
    slow.chmod(0o755)
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input"]
    with subprocess.Popen(
        [*command, "--config-file", str(template.with_suffix(".yaml"))],
        cwd=tmp_path / "out",
        env=environment({"UV": str(slow)}),
        start_new_session=True,
        # A test run in the background of a shell ignores SIGINT, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while not (tmp_path / "asked").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            said, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "No uv.lock yet: interrupted" in said
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "my-chat" / "pyproject.toml").exists()


def test_a_console_that_cannot_show_the_path_is_no_reason_to_fail(template: Path, tmp_path: Path) -> None:
    env = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "UV_OFFLINE": "1"}
    project = bake(tmp_path / "öut", template=template, env=env)
    assert project.read("pyproject.toml")

"""The questions, and what becomes of the answers."""

import ast
import json
import re
import shutil
import tomllib
from pathlib import Path

import pre_gen_project
import pytest
from cookiecutter.environment import StrictEnvironment  # type: ignore[import-untyped]
from cookiecutter.generate import generate_context  # type: ignore[import-untyped]
from cookiecutter.prompt import prompt_for_config  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from rendering import QUESTIONS, ROOT, asked, bake, cookiecutter

TEMPLATE_FOLDER = "{{cookiecutter.project_slug}}"
HOSTILE = [
    "quotes \"double\" and 'single'",
    r"back\slash, C:\new\table, trailing \\",
    '"); import os #',
    "'''); open('ran', 'w'); ('''",
    '"""); open("ran", "w"); ("""',
    "{{ 7 * 7 }} {% raw %} {# gone #}",
    "{{ cookiecutter.update(project_slug='../evil') }}",
    "Ünïcödé 聊天 😀 👩‍💻 \u202e",
    "[bold]rich[/bold] <b>html</b> & `code` $HOME %PATH%",
    "# not a heading = 1 ]",
]


def slug_for(project_name: str) -> str:
    template = StrictEnvironment().from_string(QUESTIONS["project_slug"])
    return str(template.render(cookiecutter=QUESTIONS | {"project_name": project_name}))


@pytest.mark.parametrize("answer", HOSTILE)
def test_what_is_typed_at_the_prompts_comes_out_as_that_text(answer: str, template: Path, tmp_path: Path) -> None:
    """Quotes, backslashes, Jinja, emoji and code stay text in README.md and in a pyproject.toml that parses."""
    described = f"{answer}, described"
    answers = {"project_name": answer, "project_slug": "my-chat", "description": described, "author_name": answer}
    project = bake(tmp_path / "out", answers, template, typed=True, env={"UV_OFFLINE": "1"})
    metadata = tomllib.loads(project.read("pyproject.toml"))["project"]
    assert metadata["name"] == project.path.name == "my-chat"
    assert metadata["description"] == described
    assert metadata["authors"] == [{"name": answer}]
    assert f"# {answer}\n" in project.read("README.md")
    assert described in project.read("README.md")
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("hook", ["pre_gen_project.py", "post_gen_project.py"])
@pytest.mark.parametrize("answer", HOSTILE)
def test_answers_reach_a_hook_as_one_string(answer: str, hook: str) -> None:
    """A rendered hook differs from its source in the one JSON string, which holds the answer exactly."""
    source = (ROOT / "hooks" / hook).read_text("utf-8")
    rendered = StrictEnvironment().from_string(source).render(cookiecutter={"author_name": answer})
    constants = [node.value for node in ast.walk(ast.parse(rendered)) if isinstance(node, ast.Constant)]
    given = [value for value in constants if isinstance(value, str) and value.startswith("{")]
    assert [json.loads(value) for value in given] == [{"author_name": answer}]
    assert source.count("{{") == source.count("{%") + 1 == 1


@pytest.mark.parametrize(
    ("project_name", "slug"),
    [
        ("My Chat", "my-chat"),
        ("  Bob's  Chat & Co.  ", "bob-s-chat-co"),
        ("Ünïcode Chat", "unicode-chat"),
        ("snake_case", "snake-case"),
        ("聊天", "liao-tian"),
        ("x" * 100, "x" * 63),
        ("😀", "my-chat"),
        ("Redis", "redis-chat"),
        ("Pydantic Settings", "pydantic-settings-chat"),
        ("Con", "con-chat"),
        ("3D", "chat-3d"),
        ("3" * 100, "chat-" + "3" * 58),
    ],
)
def test_the_slug_is_derived_from_the_name(project_name: str, slug: str) -> None:
    """Lower-case, anything else one hyphen, none at the ends, and no longer than is allowed."""
    assert slug_for(project_name) == slug


@given(st.text())
def test_the_slug_that_is_offered_is_never_refused(project_name: str) -> None:
    answers = dict.fromkeys(pre_gen_project.ONE_LINE, "") | {"__typed_slug": slug_for(project_name)}
    assert list(pre_gen_project.refusals(QUESTIONS | answers)) == []


def test_an_empty_slug_is_refused(template: Path, tmp_path: Path) -> None:
    """It would be rendered into the output folder itself."""
    done = cookiecutter(tmp_path, {"project_slug": ""}, template)
    assert done.returncode == 1
    assert "project_slug cannot be ''" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "slug", ["", "-", ".", "..", "../evil", "/tmp/evil", "a/b", r"a\b", "a b", "ünï", "C:evil", "a\0b", "x" * 64]
)
def test_a_slug_that_is_no_plain_folder_name_never_names_a_folder(slug: str) -> None:
    """Cookiecutter makes the folder before any hook runs, so the name is replaced before that."""
    assert folder_for(slug).startswith("refused-")


@pytest.mark.parametrize("slug", QUESTIONS["_windows_devices"].split())
def test_a_windows_device_never_names_a_folder(slug: str) -> None:
    """Whatever its case: Windows opens the device instead."""
    assert folder_for(slug).startswith("refused-")
    assert folder_for(slug.upper()).startswith("refused-")


@pytest.mark.parametrize("slug", ["a", "my-chat", "a--b", "come", "con1", "x" * 63])
def test_a_good_slug_names_the_folder(slug: str) -> None:
    assert folder_for(slug) == slug


def folder_for(slug: str) -> str:
    context = generate_context(str(ROOT / "cookiecutter.json"), extra_context={"project_slug": slug})
    return str(prompt_for_config(context, no_input=True)["project_slug"])


def test_every_question_and_choice_has_a_label() -> None:
    """In plain words, for the terminal takes square brackets for markup; each on one line of 80 columns."""
    prompts = QUESTIONS["__prompts__"]
    assert list(prompts) == asked()
    assert len(asked()) <= 10
    for question in asked():
        if isinstance(QUESTIONS[question], list):
            assert list(prompts[question]) == ["__prompt__", *QUESTIONS[question]]
            assert all(prompts[question][choice].startswith(f"{choice}: ") for choice in QUESTIONS[question])
            assert max(len(f"    1 - {label}") for label in prompts[question].values()) < 80
    assert "[" not in json.dumps(prompts)


def test_the_readme_explains_every_question_and_choice() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    table = text.partition("| question | choices |")[2].partition("\n\n")[0]
    for question in asked():
        assert f"`{question}`" in table
        if isinstance(QUESTIONS[question], list):
            rows = table.partition(f"| `{question}` |")[2].partition("\n| `")[0]
            assert [choice for choice in QUESTIONS[question] if f"`{choice}`" not in rows] == []


def test_the_readme_shows_the_picture_and_the_events_of_each_project() -> None:
    text, emitted = ((ROOT / path).read_text("utf-8") for path in ("README.md", f"{TEMPLATE_FOLDER}/README.md"))
    rows = text.partition("| event | data | when |")[2].partition("\n\n")[0].strip().splitlines()
    assert len(rows) == 5
    assert [row for row in rows if row.rstrip(" |") not in emitted] == []
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert pictures
    assert all((ROOT / path).is_file() for path in pictures)


def test_workflows_and_pages_are_copied_as_they_are(template: Path, tmp_path: Path) -> None:
    """`{{` in .github/ and app/web/ belongs to GitHub and to the page, in the base tree and in a variant."""
    paths = [".github/a.yml", ".github/workflows/a.yml", "app/web/a.html", "app/web/deep/a.html"]
    changed = tmp_path / "template"
    shutil.copytree(template, changed)
    (changed.with_suffix(".yaml")).write_text(template.with_suffix(".yaml").read_text("utf-8"), "utf-8")
    tree = changed / "{{cookiecutter.project_slug}}"
    for path in [*paths, *(f"_variants/rq/{path.replace('a.', 'b.')}" for path in paths)]:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("${{ matrix.os }} {% nonsense", "utf-8")
    project = bake(tmp_path / "out", {"queue_backend": "rq"}, changed, env={"UV_OFFLINE": "1"})
    for path in [*paths, *(path.replace("a.", "b.") for path in paths)]:
        assert project.read(path) == "${{ matrix.os }} {% nonsense"

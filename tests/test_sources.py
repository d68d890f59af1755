"""The template's own files: how the overlays lie beside each other, and what no file of the repo may hold."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from variants import OVERLAYS, VARIANTS, brought, chains, folders

BASE = "{{cookiecutter.project_slug}}"
REGISTRIES = [f"{name}.org" for name in ("pypi", "pythonhosted", "registry.npmjs", "registry.yarnpkg", "deb.debian")]
REGISTRIES += [f"{name}.io" for name in ("crates", "registry.hub.docker")]
# Of the machine that something was made on. /tmp/evil is what hostile answers ask for.
MACHINES_OWN = re.compile(r"(?<![\w.])/(work|root|home|Users|t[m]p(?!/evil))/|[.]pyenv|[A-Z]:\\Users")


@pytest.fixture(scope="session")
def sources(template: Path) -> dict[str, bytes]:
    """Every file of the repo, by its name."""
    return {path.relative_to(template).as_posix(): path.read_bytes() for path in template.rglob("*") if path.is_file()}


def overlay(sources: dict[str, bytes], folder: str) -> dict[str, bytes]:
    return {name: sources[f"{BASE}/_variants/{folder}/{name}"] for name in brought(folder)}


def questions_of(folder: str) -> set[str]:
    """Whose answers may ask for it."""
    return {question for question, of_question in OVERLAYS.items() if any(folder in it for it in of_question.values())}


def test_overlays_of_one_render_never_bring_the_same_file(sources: dict[str, bytes]) -> None:
    """Neither those of two questions nor those of one chain: so their order, and who wins, never matters."""
    for one, other in combinations(folders(), 2):
        together = any({one, other} <= set(chain) for chain in chains())
        if together or questions_of(one) != questions_of(other):
            assert overlay(sources, one).keys() & overlay(sources, other).keys() == set(), (one, other)


def test_an_overlay_brings_only_what_differs(sources: dict[str, bytes]) -> None:
    """A file that equals the base tree's would be one to keep in step for nothing."""
    for folder in folders():
        assert [name for name, data in overlay(sources, folder).items() if sources.get(f"{BASE}/{name}") == data] == []


def test_every_part_is_asked_for_and_every_part_that_is_asked_for_is_there(sources: dict[str, bytes]) -> None:
    """A name that was misspelt would add nothing, and nobody would see it."""
    there = {
        "/".join(path.parts[path.parts.index("_parts") + 1 :])
        for path in VARIANTS.glob("*/_parts/**/*")
        if path.is_file()
    }
    templates = (BASE, "templates/")
    texts = b"".join(data for name, data in sources.items() if name.startswith(templates) and not name.endswith(".py"))
    asked = set(re.findall(r'(?:lines|section|words|sorted_with)\("([^"]+)"', texts.decode("utf-8", "replace")))
    # Those that the hook reads, and the tests.
    assert there == asked | {"key", "next_steps", "products"}


def test_no_document_holds_a_condition(sources: dict[str, bytes]) -> None:
    """What differs between choices is in their parts, so a new choice edits no document."""
    documents = {name: data for name, data in sources.items() if name.startswith(BASE) and name.endswith(".md")}
    assert f"{BASE}/ARCHITECTURE.md" in documents
    assert [name for name, data in documents.items() if re.search(rb"\{%-?\s*(if|for|set)\b", data)] == []


def test_a_text_depends_on_an_answer_only_by_the_parts_that_this_brings(sources: dict[str, bytes]) -> None:
    """A part may name the choice that brings it. So what a text says is seen with each two choices together, and need
    not be looked at with every combination."""
    part = re.compile(rf"{re.escape(BASE)}/_variants/([^/]+)/_parts/")
    answer = re.compile(rf"cookiecutter\W+({'|'.join(OVERLAYS)})\b".encode())
    texts = {name: data for name, data in sources.items() if name.startswith((BASE, "templates/"))}
    asked = {name: {word.decode() for word in answer.findall(data)} for name, data in texts.items()}
    its_own = {name: questions_of(found[1]) for name in texts if (found := part.match(name))}
    assert {name: questions for name in texts if (questions := asked[name] - its_own.get(name, set()))} == {}
    assert {name for name in texts if asked[name]} == {f"{BASE}/_variants/sdk-model/_parts/readme/model.md"}


def test_all_python_holds_one_template_expression(sources: dict[str, bytes]) -> None:
    """The slug, in app/settings.py: so that Python's tools run on the emitted code where it lies."""
    python = {name: data for name, data in sources.items() if name.startswith(BASE) and name.endswith(".py")}
    found = {name: re.findall(rb"\{\{.*?\}\}|\{%|\{#", data) for name, data in python.items()}
    assert {name: marks for name, marks in found.items() if marks} == {
        f"{BASE}/app/settings.py": [b"{{ cookiecutter.project_slug }}"]
    }


def test_every_text_file_ends_in_one_newline_and_has_no_cr(sources: dict[str, bytes]) -> None:
    """Whatever machine they were written on; bytes that are no text are left alone."""
    for name, data in sources.items():
        if b"\0" not in data:
            assert b"\r" not in data, name
            assert not data or (data.endswith(b"\n") and not data.endswith(b"\n\n")), name


def test_git_keeps_line_ends_in_the_repo_and_in_every_project(sources: dict[str, bytes]) -> None:
    """Docker and sh refuse scripts that were checked out with CRLF."""
    for name in (".gitattributes", f"{BASE}/.gitattributes"):
        assert sources[name].startswith(b"* text=auto eol=lf\n")


def test_no_lock_file_is_kept(sources: dict[str, bytes]) -> None:
    """A lock names the registry of the machine that made it; each project locks for itself."""
    locks = {"uv.lock", "pylock.toml", "poetry.lock", "requirements.txt", "package-lock.json"}
    assert [name for name in sources if Path(name).name in locks] == []


@pytest.mark.parametrize("what", [*map(re.escape, REGISTRIES), MACHINES_OWN.pattern])
def test_no_file_names_a_registry_or_a_folder_of_one_machine(what: str, sources: dict[str, bytes]) -> None:
    """Whoever copies such a thing sends a company's builds past its mirror, or to a folder that is not there."""
    found = [(name, match[0]) for name, data in sources.items() for match in re.finditer(what.encode(), data)]
    assert found == []

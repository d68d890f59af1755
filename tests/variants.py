"""The variants as they lie in the template: which folders each answer lays over the base tree, and what is in them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from rendering import QUESTIONS, ROOT

VARIANTS = ROOT / "{{cookiecutter.project_slug}}" / "_variants"
OVERLAYS: dict[str, dict[str, list[str]]] = QUESTIONS["_overlays"]


def chains() -> list[list[str]]:
    """The folders of each choice, in the order of copying."""
    return [chain for of_question in OVERLAYS.values() for chain in of_question.values()]


def folders() -> list[str]:
    """All that some choice names."""
    return sorted({folder for chain in chains() for folder in chain})


def chosen(answers: Mapping[str, str]) -> list[str]:
    """The folders of these answers, in the order of copying."""
    return [folder for question, choice in answers.items() for folder in OVERLAYS[question][choice]]


@cache  # no test changes it
def brought(folder: str) -> frozenset[str]:
    """The files that a folder lays over the base tree: all of it but its parts."""
    found = (path.relative_to(VARIANTS / folder) for path in (VARIANTS / folder).rglob("*") if path.is_file())
    kept = (name for name in found if name.parts[0] != "_parts" and "__pycache__" not in name.parts)
    return frozenset(name.as_posix() for name in kept)


def part(folder: str, name: str) -> Path:
    return VARIANTS / folder / "_parts" / name

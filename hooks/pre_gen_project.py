"""Refuses answers that cannot become a project, before any file of it is written.

Cookiecutter makes the folder `project_slug` names before it runs this hook, and when the hook fails it removes that
one folder: of `../evil/x` it would leave `../evil`. So `__folder_is_safe` in cookiecutter.json, which is rendered
right after the last question, puts a name made up for the occasion in place of a slug that is no plain folder name.
`__typed_slug` keeps what was typed, and is what is judged here.

Cookiecutter 2.7 asks again where a choice is wrong, but can't check a text. So a refusal shows the command that keeps
the other answers. Below it stands a traceback: cookiecutter logs one for each hook that fails.
"""

import json
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

SLUG = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
# A slug also names hosts and containers: the limit of a DNS label (RFC 1035, section 2.3.4).
LONGEST_SLUG = 63
ONE_LINE = ("project_name", "description", "author_name")
# Controls, line and paragraph separators, and surrogates: what UTF-8, TOML or one line of text cannot hold.
NOT_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})


def refusals(answers: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each answer that cannot be used."""
    slug = answers["__typed_slug"]
    device = slug in answers["_windows_devices"].split()
    if device or len(slug) > LONGEST_SLUG or not SLUG.fullmatch(slug):
        yield (
            f"project_slug cannot be {slug[:80]!r}: it must be 1 to {LONGEST_SLUG} lower-case letters, digits and "
            "hyphens, start with a letter, end with a letter or digit, and not be the name of a Windows device "
            "(such as 'con')."
        )
    elif re.sub("-+", "-", slug) in answers["_dependencies"].split():  # uv compares names as PEP 503 says
        yield f"project_slug cannot be {slug!r}: projects of this template may depend on a package of that name."
    for question in ONE_LINE:
        if any(unicodedata.category(character) in NOT_TEXT for character in answers[question]):
            yield f"{question} must be one line of text, without line breaks or control characters."


def again(answers: Mapping[str, Any]) -> str:
    """The command that asks anew, and offers these answers, but for the slug, as defaults."""
    kept = {name: text for name, text in answers.items() if not name.startswith("_") and name != "project_slug"}
    return shlex.join(["cookiecutter", answers["_template"], *(f"{name}={text}" for name, text in kept.items())])


def main(answers: Mapping[str, Any]) -> None:
    found = list(refusals(answers))
    if found:
        sys.exit("\n".join([*found, f"To be asked again, with your other answers as defaults:\n  {again(answers)}"]))


if __name__ == "__main__":
    # tojson writes ' as \u0027, so no answer can end a string in single quotes.
    main(json.loads(r'''{{ cookiecutter | tojson }}'''))  # fmt: skip

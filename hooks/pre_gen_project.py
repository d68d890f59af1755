"""Refuses answers that cannot become a project, before any file of it is written.

Cookiecutter makes the folder `project_slug` names before it runs this hook, and when the hook fails it removes that
one folder: of `../evil/x` it would leave `../evil`. So `__folder_is_safe` in cookiecutter.json, which is rendered
right after the last question, puts a name made up for the occasion in place of a slug that is no plain folder name.
`__typed_slug` keeps what was typed, and is what is judged here. That no dependency bears the name of the project is the
next hook's to see, for only then is there a pyproject.toml.
"""

import json
import re
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
    taken = slug in answers["_windows_devices"].split()
    if taken or len(slug) > LONGEST_SLUG or not SLUG.fullmatch(slug):
        yield (
            f"project_slug cannot be {slug[:80]!r}: it must be 1 to {LONGEST_SLUG} lower-case letters, digits and "
            "hyphens, start with a letter, end with a letter or digit, and not be the name of a Windows device "
            "(such as 'con')."
        )
    for question in ONE_LINE:
        if any(unicodedata.category(character) in NOT_TEXT for character in answers[question]):
            yield f"{question} must be one line of text, without line breaks or control characters."


if __name__ == "__main__":
    # tojson writes ' as \u0027, so no answer can end a string in single quotes.
    found = list(refusals(json.loads(r'''{{ cookiecutter | tojson }}''')))  # fmt: skip
    if found:
        sys.exit("\n".join(found))

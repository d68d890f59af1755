"""Makes a key for a caller: `uv run python -m app.keys alice`."""

import re
import secrets
import sys

from app.callers.settings import NAME, CallerSettings, digest_of_key

TOLD = """\
The key of {name}, which is shown this once:

{key}

The line for the settings, with the keys that they have here. It holds their SHA-256, and no key:

API_KEYS={line}
"""


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or not re.fullmatch(NAME, arguments[0]):
        raise SystemExit(f"usage: python -m app.keys NAME, where the name matches {NAME}")
    key = secrets.token_urlsafe(32)
    names = CallerSettings.read().api_keys | {digest_of_key(key): arguments[0]}
    line = ", ".join(f"{name}:{kept}" for kept, name in names.items())
    print(TOLD.format(name=arguments[0], key=key, line=line), end="")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What a value is in a line of the log, whatever it is. Nothing here raises: logging would write a traceback of its own
in the place of the line."""

import json
import re
from collections.abc import Mapping

# In JSON, the backslash of a lone surrogate. The group is any other escape, and a whole pair: these stay as they are.
HALF = re.compile(r"(\\ud[89ab]\w\w\\ud[c-f]\w\w|\\[^u]|\\u(?!d[89a-f]))|\\")


def text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text is a {type(error).__name__}>"


def printable(text: str) -> str:
    """What is not printable is escaped, as `repr` does it."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def word(value: object) -> str:
    """The value as one word. Text with spaces, quotes or line breaks is quoted."""
    text = text_of(value)
    return text if re.fullmatch(r"[\w.:/+-]+", text) else repr(text)


def as_json(entry: Mapping[str, object]) -> str:
    """In ASCII, so no character of it is taken for the end of a line. Strict readers refuse a lone surrogate, so its
    escape is escaped again, and is text. What JSON has no form for becomes text too."""
    try:
        line = _dumps(entry)
    except Exception:
        line = _dumps({name: _that_is_json(value) for name, value in entry.items()})
    return HALF.sub(lambda found: found[1] or r"\\", line) if r"\ud" in line else line


def _dumps(value: object) -> str:
    return json.dumps(value, default=text_of, allow_nan=False)


def _that_is_json(value: object) -> object:
    """Or its text, as that of a NaN, of a ring, of what has bytes for keys."""
    try:
        _dumps(value)
    except Exception:
        return text_of(value)
    return value

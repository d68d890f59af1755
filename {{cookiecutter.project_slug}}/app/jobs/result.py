"""What a job has returned, as JSON and back."""

import json
from typing import Any, NoReturn

from pydantic_core import to_json


class BadResult(Exception):
    """Its text is shown to the caller."""


def to_text(value: Any, max_bytes: int) -> str:
    """Raises BadResult for what JSON can't carry, or `from_text` could not read, or is larger than `max_bytes`."""
    try:
        text = to_json(value)
    except Exception as error:
        raise BadResult("The job's result can't be written as JSON.") from error
    if len(text) > max_bytes:
        raise BadResult(f"The job's result is larger than {max_bytes} bytes (JOB_MAX_RESULT_BYTES).")
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadResult("The job's result holds a number or a depth that JSON can't carry.") from error
    return text.decode()


def from_text(text: str) -> Any:
    """Raises BadResult for a result that an earlier version has kept, though nobody can read it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadResult("The job has succeeded, but its result can't be read.") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")

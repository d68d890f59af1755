"""MODEL_EXTRA: further parameters of each request, as a JSON object."""

import json
from typing import Any

OURS = {"model", "messages", "stream", "system"}


def parse_extra(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise ValueError('must be a JSON object, such as {"top_p": 0.9}')
    if ours := OURS & value.keys():
        raise ValueError(f"must be without {', '.join(sorted(ours))}: other settings, or a caller, say that")
    return value

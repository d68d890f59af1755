"""One short text for anything that is JSON, to see whether something is asked twice."""

import hashlib
import json
from typing import Any


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

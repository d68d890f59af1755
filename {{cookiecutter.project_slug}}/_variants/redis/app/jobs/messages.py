"""What a message to a worker says: a job's id, and for the queue's library the time limit of its attempt. Whoever can
write to the broker can write messages, so nothing else in one is believed."""

import re
from typing import TypeGuard

_ID = re.compile("[0-9a-f]{32}")


def is_job_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None

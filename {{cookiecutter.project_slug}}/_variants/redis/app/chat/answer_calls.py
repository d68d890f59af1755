"""What the calls take and give by which answers are kept in Redis, and how often they are made."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.chat.known_answer import Asked


@dataclass(frozen=True)
class Times:
    """In seconds. A writer renews its `lease`, and learns of a wish to stop, each `renew`. New events are written each
    `write`, and looked for each `look`. A reader ends an answer whose lease has run out, and `suspicion` later still
    has."""

    lease: float = 10.0
    suspicion: float = 2.0
    renew: float = 0.5
    write: float = 0.05
    look: float = 0.1


@dataclass(frozen=True)
class Look:
    """What one look has found. `left` is how many milliseconds of the lease are left. `ends` is 1 if this look has
    ended the answer, since nobody writes it any more."""

    holder: str
    left: int
    ended: str
    stop: str
    caller: str
    fingerprint: str
    length: int
    events: Sequence[str]
    ends: int


@dataclass(frozen=True)
class Reply:
    """What became of a write. `state` is OK, or FENCED: another process has ended the answer, or may write it; or LOST,
    or GAP: Redis has lost all of it, or all but so many events as it does `have`. `read` says how many milliseconds ago
    somebody has read it elsewhere, or is -1."""

    state: str
    have: int = 0
    stop: str = ""
    read: int = -1


@dataclass(frozen=True)
class Write:
    """What is new of an answer behind the first `place` events. `last` says that its end is among them, and
    `reserved` that Redis has given this process its name."""

    asked: Asked
    place: int
    events: Sequence[str]
    last: bool
    stopped: bool
    reserved: bool

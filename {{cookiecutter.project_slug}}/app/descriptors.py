"""How many descriptors this process may have, and for what."""

import logging
import sys
from dataclasses import dataclass

log = logging.getLogger(__name__)
BACKLOG = 2048  # uvicorn's own: so many connections may come at once, before the first of them is read
A_STREAM = 2  # its own, and one for the answer's connection to the model
OTHERS = 256  # for what is open all the while, as pools of connections, for short requests, and for who is refused


@dataclass(frozen=True)
class Shares:
    """How many connections there may be whose request is not whole, and how many streams."""

    unfinished: int
    streams: int


def share_descriptors(streams: int) -> Shares:
    """Raises the soft limit of descriptors to what so many streams need. It is 1,024 in many places for the sake of
    programs that call select(2), and this is none of them. Where the hard limit is lower, fewer streams fit."""
    allowed = _raised_to(streams * A_STREAM + BACKLOG + OTHERS)
    if allowed is None:
        return Shares(BACKLOG, streams)
    unfinished = min(allowed // 2, BACKLOG)
    fit = max(1, (allowed - unfinished - OTHERS) // A_STREAM)
    if fit < streams:
        log.warning("MAX_STREAMS is %d and not %d: %d descriptors are allowed (ulimit -Hn)", fit, streams, allowed)
    return Shares(unfinished, min(fit, streams))


def _raised_to(wanted: int) -> int | None:
    """How many descriptors are allowed then, or None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None if soft == resource.RLIM_INFINITY else soft
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError) as error:  # macOS has a lower limit of its own
        log.warning("no more than %d descriptors are allowed: %s", soft, error)
        return soft
    return most

"""What is asked before an answer or a job begins: may its caller begin one more?

Whoever only asks for one that is there already is not held up: a request that is sent again, by its `Idempotency-Key`.
"""

from collections.abc import Awaitable, Callable, Sequence

from app.errors import TooMany

Admit = Callable[[str], Awaitable[None]]
"""Gets the caller's name. Raises TooMany if a limit of that caller is reached."""
ANSWERS = "answers"  # the limit of those that run at once
ENDS_SECONDS = 2  # nobody knows when an answer will end, and to try again soon costs little


def all_of(limits: Sequence[Admit]) -> Admit | None:
    """Asks each, in this order, until one refuses. None without any: then nothing need be asked."""
    if not limits:
        return None

    async def admit(caller: str) -> None:
        for limit in limits:
            await limit(caller)

    return admit


def too_many_answers(most: int) -> TooMany:
    """For a caller of whose answers so many run."""
    words = f"no more than {most} of your answers may run at once: wait until one has ended, or stop one"
    return TooMany(words, limit=ANSWERS, quota=most, per='qu="concurrent-requests"', seconds=ENDS_SECONDS)


class Admission:
    """Of one request: whatever else has to be asked again, this is asked for once."""

    def __init__(self, admit: Admit | None, caller: str) -> None:
        self._admit = admit
        self._caller = caller

    @property
    def to_ask(self) -> bool:
        return self._admit is not None

    async def ask(self) -> None:
        if self._admit:
            await self._admit(self._caller)
            self._admit = None

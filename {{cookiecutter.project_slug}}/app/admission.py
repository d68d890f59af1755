"""What is asked before an answer or a job begins: may its caller begin one more?

Nothing is asked for one that is there already: a request that is sent again has its `Idempotency-Key`.
"""

from collections.abc import Awaitable, Callable, Sequence

from app.errors import TooMany

Admit = Callable[[str], Awaitable[None]]
"""Gets the caller's name. Raises TooMany if a limit of that caller is reached."""
ANSWERS = "answers"  # the name of a limit: how many answers of one caller run at once
ALL_ANSWERS = "all answers"  # the same, of all callers together


def all_of(limits: Sequence[Admit]) -> Admit | None:
    """Asks each, in this order, until one refuses. None without any: then nothing need be asked."""
    if not limits:
        return None

    async def admit(caller: str) -> None:
        for limit in limits:
            await limit(caller)

    return admit


def too_many_answers(most: int) -> TooMany:
    """What to raise if `most` answers of the caller run already."""
    words = f"no more than {most} of your answers may run at once: wait until one has ended, or stop one"
    return TooMany(words, limit=ANSWERS, quota=most)


class Admission:
    """Asks the limits for one request, and only once, however often the store has to be asked."""

    def __init__(self, admit: Admit | None, caller: str) -> None:
        self._admit = admit
        self._caller = caller

    @property
    def to_ask(self) -> bool:
        """Whether the limits have yet to be asked."""
        return self._admit is not None

    async def ask(self) -> None:
        if self._admit:
            await self._admit(self._caller)
            self._admit = None

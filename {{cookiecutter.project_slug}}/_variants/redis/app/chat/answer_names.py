"""Which answer has a name, and which process makes it: where two that get the same question agree on one answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from weakref import WeakValueDictionary

from app.admission import ALL_ANSWERS, ANSWERS, Admission, Admit, too_many_answers
from app.chat.answer_mirror import Mirror
from app.chat.answer_mirrors import Mirrors
from app.chat.answer_records import ADMIT, CROWDED, FULL, Records
from app.chat.answer_turns import Turns
from app.chat.answers_here import AnswersHere
from app.chat.known_answer import KEY, Asked, KnownAnswer, Name
from app.errors import TooMany, Unavailable
from app.redis_client import StoreAway, within, words

log = logging.getLogger(__name__)
Joins = Callable[[KnownAnswer], Awaitable[bool]]
"""Says whether the answer that has a name will do. It may stop it first."""
CLAIM_SECONDS = 2.0  # for an Idempotency-Key, and then a 503: if it is in use, a second run would be paid for
WAIT_SECONDS = 0.5  # for all others. Then the answer begins without Redis
LOOK_SECONDS = 0.1  # from one look to the next, at an answer that another process is about to begin
OVER_SECONDS = 0.15  # in which another process writes that an answer is over, whose reader may know of it already


class Names:
    def __init__(
        self,
        records: Records,
        here: AnswersHere,
        mirrors: Mirrors,
        reserved: set[str],
        has_space: Callable[[], bool],
        most: int,
    ) -> None:
        """Adds to `reserved` the ids of answers that Redis expects from this process. `most` is how many of a caller's
        may run at once, or 0."""
        self._records = records
        self._here = here
        self._mirrors = mirrors
        self._reserved = reserved
        self._has_space = has_space
        self._most = most
        self._locks: WeakValueDictionary[Name, asyncio.Lock] = WeakValueDictionary()
        self._turns = Turns()

    async def known(self, answer_id: str, caller: str) -> KnownAnswer | None:
        """None if it is another caller's: it is looked for as one that nobody knows, so that the time tells nothing.

        Raises StoreAway.
        """
        here = self._here.get(answer_id)
        return here if here and here.asked.caller == caller else await self._mirrors.get(answer_id, caller)

    async def find_or_reserve(self, asked: Asked, joins: Joins | None, admit: Admit | None) -> KnownAnswer | None:
        """As `AnswerStore.find_or_reserve`."""
        admission = Admission(admit, asked.caller)
        try:
            return await self._find_or_reserve(asked, joins, admission)
        except TooMany as error:
            if error.limit != ANSWERS or self._is_crowded(asked.caller):
                raise
            await asyncio.sleep(OVER_SECONDS)
            try:
                return await self._find_or_reserve(asked, joins, admission)
            except StoreAway:
                raise error from None

    async def _find_or_reserve(self, asked: Asked, joins: Joins | None, admission: Admission) -> KnownAnswer | None:
        if asked.name is None:
            if self._is_crowded(asked.caller):
                raise too_many_answers(self._most)  # whatever Redis has
            return await self._find_or_begin_here(asked, joins, admission)
        # One at a time: a reservation of this process without an answer is taken for dead.
        lock = self._locks.setdefault(asked.name, asyncio.Lock())
        if asked.name[0] == KEY:
            async with within(CLAIM_SECONDS), lock:
                return await self._find(asked, joins, admission, CLAIM_SECONDS)
        async with lock:
            return await self._find_or_begin_here(asked, joins, admission)

    async def _find_or_begin_here(self, asked: Asked, joins: Joins | None, admission: Admission) -> KnownAnswer | None:
        try:
            return await self._find(asked, joins, admission, WAIT_SECONDS)
        except StoreAway as error:
            while True:
                if not self._has_space():
                    raise
                if self._is_crowded(asked.caller):
                    raise too_many_answers(self._most) from None
                if not admission.to_ask:
                    log.warning("answer %s begins without Redis, and is here only for now: %s", asked.id, words(error))
                    return None
                await admission.ask()  # others may begin meanwhile, so it looks again

    async def _find(
        self, asked: Asked, joins: Joins | None, admission: Admission, seconds: float
    ) -> KnownAnswer | None:
        instead_of = None
        while known := await self._owner_of_name(asked, instead_of, admission, seconds):
            if joins and await joins(known):
                return known
            instead_of = known.id
        return None

    async def _owner_of_name(
        self, asked: Asked, instead_of: str | None, admission: Admission, seconds: float
    ) -> KnownAnswer | None:
        """The answer that has the name, unless that is `instead_of`. None: the name is that of `asked` now."""
        waits_until = monotonic() + seconds
        while True:
            async with self._turns.of(asked.caller, seconds):  # only for what Redis is asked: the rest may take longer
                if (here := self._here.named(asked.name)) and here.id != instead_of:
                    return here
                owner = await self._records.reserve(
                    asked,
                    instead_of,
                    full=not self._has_space(),
                    crowded=self._is_crowded(asked.caller),
                    over=self._over(asked.caller),
                    to_admit=admission.to_ask,
                )
                if owner is None:
                    self._reserved.add(asked.id)
                    return None
                known = None if owner in (FULL, CROWDED, ADMIT) else await self.known(owner, asked.caller)
            if owner == FULL:
                raise Unavailable("too many answers at once", limit=ALL_ANSWERS)
            if owner == CROWDED:
                raise too_many_answers(self._most)
            if owner == ADMIT:
                await admission.ask()
            elif known and (not isinstance(known, Mirror) or known.begun):
                return known
            elif isinstance(known, Mirror) and known.may_begin and known.look.holder != self._records.holder:
                if monotonic() > waits_until:
                    raise StoreAway("another process has not begun the answer yet")
                await asyncio.sleep(LOOK_SECONDS)
            else:
                instead_of = owner  # it is gone, or was never made: its process has had its time, or is this one

    def _is_crowded(self, caller: str) -> bool:
        """Whether too many of the caller's run in this process alone."""
        return bool(self._most) and self._here.running_of(caller) >= self._most

    def _over(self, caller: str) -> list[str]:
        """Ids of those of the caller that have ended here, which Redis may not know yet."""
        return [each.id for each in self._here.ended() if each.asked.caller == caller] if self._most else []

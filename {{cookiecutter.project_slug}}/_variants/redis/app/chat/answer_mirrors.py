"""Answers that other processes write, for those who read them here.

All readers of an answer share one mirror of its log. There is one look a tick at all mirrors, whatever their number.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from time import monotonic
from weakref import WeakValueDictionary

from app.chat.answer_calls import Look
from app.chat.answer_mirror import Mirror
from app.chat.answer_records import Records
from app.chat.answer_ticks import repeated
from app.errors import Unavailable
from app.redis_client import StoreAway, words

log = logging.getLogger(__name__)
STAMP_SECONDS = 1.0  # so often Redis is told that an answer is read


class Mirrors:
    def __init__(self, requests: Records, ticks: Records) -> None:
        """Looks for a request, and those of each tick, have connections of their own: neither waits for the other."""
        self._requests = requests
        self._ticks = ticks
        self._known: WeakValueDictionary[str, Mirror] = WeakValueDictionary()
        self._followed: set[Mirror] = set()
        self._wake = asyncio.Event()
        self._refused = ""  # the words of Redis, the last time

    @property
    def bytes(self) -> int:
        return sum(mirror.bytes for mirror in self._known.values())

    async def get(self, answer_id: str, caller: str) -> Mirror | None:
        """None if Redis does not have the answer, or it is another caller's. Raises Unavailable."""
        mirror = self._shared(answer_id)
        if mirror is None or mirror.asked.caller != caller:
            if (mirror := await self._read(answer_id, caller)) is None:
                return None
            mirror = self._shared(answer_id) or mirror  # somebody else may have come meanwhile
            self._known[answer_id] = mirror
        mirror.expect_reader()
        self._follow(mirror)
        return mirror

    def running(self) -> AbstractAsyncContextManager[None]:
        times = self._ticks.times
        return repeated(self.follow, self._wake, times.look, times.renew, "mirrors of answers")

    async def follow(self) -> bool:
        """One look at all that are read. Returns False if Redis is away."""
        mirrors = [mirror for mirror in self._followed if not mirror.complete and mirror.unread_in > 0]
        self._followed = set(mirrors)
        if not mirrors:
            self._wake.clear()
            return True
        now = monotonic()
        stamps = [now - mirror.stamped >= STAMP_SECONDS for mirror in mirrors]
        try:
            wanted = [(each.id, len(each.log), stamp) for each, stamp in zip(mirrors, stamps, strict=True)]
            looks = await self._ticks.look(wanted)
        except Unavailable as error:
            looks = [error] * len(mirrors)
        refusals = []
        for mirror, stamped, look in zip(mirrors, stamps, looks, strict=True):
            if isinstance(look, Exception):
                refusals.append(words(look))
                mirror.redis_is_away()
            else:
                self._update(mirror, look)
                mirror.stamped = now if stamped else mirror.stamped
        refused = refusals[0] if refusals else ""
        if refused and refused != self._refused:
            log.warning("answers of other processes can't be read from Redis for now: %s", refused)
        self._refused = refused
        return len(refusals) < len(looks)

    def _update(self, mirror: Mirror, look: Look | None) -> None:
        try:
            if look:
                mirror.update(look)
            else:
                mirror.miss()
        except Exception:  # what nobody can read must not keep the others from their answers
            log.exception("answer %s can't be read from Redis", mirror.id)
            mirror.give_up()

    async def _read(self, answer_id: str, caller: str) -> Mirror | None:
        """All that Redis has of it now."""
        look = await self._look_at(answer_id, caller, 0)
        mirror = Mirror(answer_id, self._requests, look, self._follow) if look else None
        while mirror and look and not mirror.complete and len(mirror.log) < look.length:
            if look := await self._look_at(answer_id, caller, len(mirror.log)):
                mirror.update(look)
        return mirror if look and mirror and mirror.usable else None

    async def _look_at(self, answer_id: str, caller: str, place: int) -> Look | None:
        (look,) = await self._requests.look([(answer_id, place, True)], caller)
        if isinstance(look, Exception):
            raise StoreAway("the store does not answer") from look
        return look

    def _shared(self, answer_id: str) -> Mirror | None:
        """That of other readers here, if it is of use."""
        mirror = self._known.get(answer_id)
        return mirror if mirror and mirror.usable else None

    def _follow(self, mirror: Mirror) -> None:
        if not mirror.complete:
            self._followed.add(mirror)
            self._wake.set()

"""Answers that other processes write, for those who read them here.

All readers of an answer share one mirror of its log. There is one look a tick at all mirrors, whatever their number.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from time import monotonic
from weakref import WeakValueDictionary

from app.chat.answer_events import load
from app.chat.answer_records import LOST, Look, Records
from app.chat.answer_ticks import repeated
from app.chat.known_answer import Asked, KnownAnswer
from app.errors import Unavailable

log = logging.getLogger(__name__)
STAMP_SECONDS = 1.0  # so often Redis is told that an answer is read
KEPT_SECONDS = 1.0  # without a reader


class Mirror(KnownAnswer):
    """`over` is true when Redis has no more for it."""

    def __init__(self, answer_id: str, records: Records, look: Look, follow: Callable[["Mirror"], None]) -> None:
        """Calls `follow` when somebody reads it."""
        super().__init__(Asked(answer_id, look.caller, look.fingerprint), KEPT_SECONDS)
        self._follow = follow
        self.over = False
        self.stamped = monotonic()
        self.look = look  # the last one
        self._records = records
        self._missing_since: float | None = None
        self.take(look)

    @property
    def begun(self) -> bool:
        return len(self.log) > 0

    @property
    def may_begin(self) -> bool:
        """Whether the process that has reserved it has time left."""
        return self.look.left > 0

    @property
    def lost(self) -> bool:
        return self.reason is not None and not self.look.holder

    @contextmanager
    def reading(self) -> Iterator[None]:
        with super().reading():
            self._follow(self)
            yield

    async def stop(self) -> None:
        await self._records.stop(self.id)

    def take(self, look: Look | None) -> None:
        if look is None:  # Redis has lost its data. The writer writes it anew, if there still is one
            self._missing_since = self._missing_since or monotonic()
            if monotonic() - self._missing_since >= self._records.times.lease:
                self.log.append(*LOST)
                self.over = True
            return
        self._missing_since = None
        self.look = look
        self.log.append(*map(load, look.events))
        self.stopped = bool(look.stop) and self.reason in (None, "cancelled")
        if look.ended and look.length <= len(self.log):
            self.over = True
            if not self.log.end:  # Redis has lost a part that was read here, and the end is before it
                self.log.cut()


class Mirrors:
    def __init__(self, records: Records) -> None:
        self._wake = asyncio.Event()
        self._records = records
        self._known: WeakValueDictionary[str, Mirror] = WeakValueDictionary()
        self._followed: set[Mirror] = set()
        self._away = False

    @property
    def bytes(self) -> int:
        return sum(mirror.bytes for mirror in self._known.values())

    async def get(self, answer_id: str) -> Mirror | None:
        """None if Redis does not have the answer. Raises Unavailable."""
        if not (mirror := self._of(answer_id)):
            if not (look := await self._look_at(answer_id, 0)):
                return None
            mirror = Mirror(answer_id, self._records, look, self._follow)
            while not mirror.over and len(mirror.log) < mirror.look.length:
                mirror.take(await self._look_at(answer_id, len(mirror.log)))
            mirror = self._of(answer_id) or mirror  # somebody else may have come meanwhile
            self._known[answer_id] = mirror
        mirror.expect_reader()
        self._follow(mirror)
        return mirror

    def _of(self, answer_id: str) -> Mirror | None:
        mirror = self._known.get(answer_id)
        return None if mirror is None or mirror.over else mirror

    def _follow(self, mirror: Mirror) -> None:
        if not mirror.over:
            self._followed.add(mirror)
            self._wake.set()

    def running(self) -> AbstractAsyncContextManager[None]:
        times = self._records.times
        return repeated(self.follow, self._wake, times.look, times.renew, "mirrors of answers")

    async def follow(self) -> bool:
        """One look at all. Returns False if Redis is away."""
        mirrors = [mirror for mirror in self._followed if not mirror.over and mirror.unread_in > 0]
        self._followed = set(mirrors)
        if not mirrors:
            self._wake.clear()
            return True
        now = monotonic()
        read = [now - mirror.stamped >= STAMP_SECONDS for mirror in mirrors]
        try:
            wanted = [(each.id, len(each.log), stamp) for each, stamp in zip(mirrors, read, strict=True)]
            looks = await self._records.look(wanted)
        except Unavailable as error:
            looks = [error] * len(mirrors)
        refused = self._take(mirrors, read, looks, now)
        if refused and not self._away:
            log.warning("answers of other processes can't be read from Redis for now: %s", refused)
        self._away = refused is not None
        return not self._away

    def _take(
        self, mirrors: Sequence[Mirror], read: Sequence[bool], looks: Sequence[Look | Exception | None], now: float
    ) -> Exception | None:
        refused = None
        for mirror, stamped, look in zip(mirrors, read, looks, strict=True):
            if isinstance(look, Exception):
                refused = look
                continue
            try:
                mirror.take(look)
            except Exception:  # what nobody can read must not keep the others from their answers
                log.exception("answer %s can't be read from Redis", mirror.id)
                mirror.over = True
                mirror.log.cut()
            if stamped:
                mirror.stamped = now
        return refused

    async def _look_at(self, answer_id: str, place: int) -> Look | None:
        (look,) = await self._records.look([(answer_id, place, True)])
        if isinstance(look, Exception):
            raise Unavailable("the store does not answer") from look
        return look

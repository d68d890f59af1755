"""Writes what is new of this process's answers to Redis, behind their own logs: who reads here never waits for it.

There is one pipeline a tick, whatever the number of answers. While Redis is away, answers grow here, and are written
when it is back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

from app.chat.answer import Answer
from app.chat.answer_calls import Reply, Write
from app.chat.answer_events import dump_some
from app.chat.answer_records import Records
from app.chat.answer_ticks import repeated
from app.errors import Unavailable
from app.redis_client import words

log = logging.getLogger(__name__)
PIPELINE_BYTES = 1024 * 1024  # a tick. All that a long outage has left would time out again if it went in one piece
FINISH_SECONDS = 5.0  # for what a process that stops has not written yet: about what a failover takes
READ_LATELY_MS = 1500  # readers elsewhere are noted once a second


@dataclass
class Entry:
    answer: Answer
    reserved: bool
    written: int = 0  # events that are in Redis
    renewed: float = field(default_factory=monotonic)


class Writer:
    def __init__(self, records: Records, gone: Callable[[Answer], None]) -> None:
        """Calls `gone` with each answer that needs this process no more: Redis has all of it, or another's end."""
        self.reserved: set[str] = set()  # ids that Redis expects from here
        self.draining = False
        self._records = records
        self._times = records.times
        self._gone = gone
        self._entries: dict[str, Entry] = {}
        self._refused = ""  # the words of Redis, the last time
        self._wake = asyncio.Event()

    def add(self, answer: Answer) -> None:
        self._entries[answer.id] = Entry(answer, answer.id in self.reserved)
        self.reserved.discard(answer.id)
        self._wake.set()

    def forget(self, answer_id: str) -> None:
        if entry := self._entries.pop(answer_id, None):
            self._gone(entry.answer)

    def is_shared(self, answer: Answer) -> bool:
        """Whether Redis has it, as far as this process knows, so that others can read it."""
        entry = self._entries.get(answer.id)
        lately = 4 * self._times.renew  # a write may have to be repeated
        return bool(entry and entry.written and monotonic() - entry.renewed < lately)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with repeated(self.write, self._wake, self._times.write, self._times.renew, "writer of answers"):
            yield
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while True:
                    taken = await self.write()
                    if not self._entries or not (taken or self.draining):
                        break
                    await asyncio.sleep(self._times.write if taken else self._times.renew)

    async def write(self) -> bool:
        """Writes what is new of all answers. Returns False if Redis has taken nothing of it."""
        if not self._entries:
            self._wake.clear()
            return True
        now = monotonic()
        entries, writes, space = [], [], PIPELINE_BYTES
        for entry in sorted(self._entries.values(), key=lambda entry: entry.renewed):
            events = dump_some(entry.answer.log.behind(entry.written), space, entry.answer.id) if space > 0 else []
            space -= sum(map(len, events))
            if events or now - entry.renewed >= self._times.renew:
                entries.append(entry)
                writes.append(self._write_of(entry, events))
        if not writes:
            return True
        try:
            replies = await self._records.append(writes)
        except Unavailable as error:
            replies = [error] * len(entries)
        refusals = []
        for entry, write, reply in zip(entries, writes, replies, strict=True):
            if isinstance(reply, Exception):
                refusals.append(words(reply))
            else:
                await self._written(entry, write, reply, now)
        if refusals or self._refused:
            self._wait_for_redis()
        self._log(refusals[0] if refusals else "")
        return len(refusals) < len(replies)

    def _write_of(self, entry: Entry, events: Sequence[str]) -> Write:
        answer = entry.answer
        last = answer.log.end is not None and entry.written + len(events) == len(answer.log)
        return Write(answer.asked, entry.written, events, last, answer.stopped, entry.reserved)

    def _wait_for_redis(self) -> None:
        """While Redis is away, readers elsewhere can't be seen. So the grace begins when it is back. A process that
        stops waits for Redis as long as nobody else can end its answers."""
        for entry in self._entries.values():
            if entry.written or entry.reserved:  # else nobody elsewhere can know of it
                entry.answer.read_until = monotonic()
            if self.draining and monotonic() - entry.renewed > self._times.lease:
                entry.answer.lose()

    async def _written(self, entry: Entry, write: Write, reply: Reply, now: float) -> None:
        answer = entry.answer
        match reply.state:
            case "FENCED":  # this process stood still
                log.warning("answer %s was ended elsewhere", answer.id)
                answer.log.cut()
                answer.lose()
                self.forget(answer.id)
            case "LOST":
                entry.written = 0
            case "GAP":
                entry.written = reply.have
            case "OK":
                entry.written, entry.renewed = write.place + len(write.events), now
                if write.last:
                    self.forget(answer.id)
                elif reply.stop:
                    await answer.stop()
                if 0 <= reply.read < READ_LATELY_MS:
                    answer.read_until = monotonic() + READ_LATELY_MS / 1000

    def _log(self, refused: str) -> None:
        if refused and refused != self._refused:
            log.warning("answers are not written to Redis, and only read here for now: %s", refused)
        elif self._refused and not refused:
            log.info("answers are written to Redis again")
        self._refused = refused

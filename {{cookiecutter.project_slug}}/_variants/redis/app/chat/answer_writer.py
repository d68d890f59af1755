"""Writes what is new of this process's answers to Redis, behind their own logs: who reads here never waits for it.

There is one pipeline a tick, whatever the number of answers. While Redis is away, answers grow here, and are written
when it is back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from app.chat.answer import Answer
from app.chat.answer_events import dump
from app.chat.answer_records import Records, Write
from app.chat.answer_ticks import repeated
from app.errors import Unavailable
from app.streams.events import Event

log = logging.getLogger(__name__)
PIPELINE_BYTES = 1024 * 1024  # what is more waits for the next tick: in one piece, a long outage would time out again
FINISH_SECONDS = 1.0  # for the last words, when the process ends
READ_LATELY = 1500  # milliseconds: readers elsewhere are noted once a second


@dataclass
class Entry:
    answer: Answer
    reserved: bool
    written: int = 0  # events that are in Redis
    renewed: float = field(default_factory=monotonic)

    @property
    def unwritten(self) -> Sequence[Event]:
        return self.answer.log.behind(self.written)


class Writer:
    def __init__(self, records: Records, gone: Callable[[Answer], None]) -> None:
        """Calls `gone` with each answer that needs this process no more: Redis has all of it, or another's end."""
        self.trouble = ""  # the words in which Redis has refused what was written last
        self.reserved: set[str] = set()  # ids that Redis expects from here
        self._records = records
        self._times = records.times
        self._gone = gone
        self._entries: dict[str, Entry] = {}
        self._wake = asyncio.Event()

    def add(self, answer: Answer) -> None:
        self._entries[answer.id] = Entry(answer, answer.id in self.reserved)
        self.reserved.discard(answer.id)
        self._wake.set()

    def is_shared(self, answer: Answer) -> bool:
        """Whether Redis has it, as far as this process knows, so that others can read it."""
        entry = self._entries.get(answer.id)
        return bool(entry and entry.written and monotonic() - entry.renewed < 4 * self._times.renew)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with repeated(self.write, self._wake, self._times.write, self._times.renew, "writer of answers"):
            yield
        deadline = monotonic() + FINISH_SECONDS
        while self._entries and monotonic() < deadline and await self.write():
            pass

    async def write(self) -> bool:
        """Returns False if Redis is away."""
        if not self._entries:
            self._wake.clear()
            return True
        now = monotonic()
        entries, writes, room = [], [], PIPELINE_BYTES
        for entry in sorted(self._entries.values(), key=lambda entry: entry.renewed):
            events = [] if room <= 0 else self._dump(entry, room)
            room -= sum(map(len, events))
            if events or now - entry.renewed >= self._times.renew:
                entries.append(entry)
                writes.append(self._write_of(entry, events))
        try:
            replies = await self._records.append(writes) if writes else []
        except Unavailable as error:
            replies = [error] * len(entries)
        trouble = ""
        for entry, write, reply in zip(entries, writes, replies, strict=True):
            if isinstance(reply, Exception):
                trouble = str(reply.__cause__ or reply)
                entry.answer.expect_reader()  # whoever reads elsewhere can't say so now
            else:
                await self._take(entry, write, now, *reply)
        if trouble and trouble != self.trouble:
            log.warning("answers are not written to Redis, and only read here for now: %s", trouble)
        elif self.trouble and writes and not trouble:
            log.info("answers are written to Redis again")
        self.trouble = trouble if writes else self.trouble
        return not trouble

    def _dump(self, entry: Entry, room: int) -> list[str]:
        dumped: list[str] = []
        for event in entry.unwritten:
            try:
                text = dump(event)
            except (TypeError, ValueError):
                log.exception("answer %s: event %s is no JSON", entry.answer.id, event.name)
                text = event.name + " {}"  # places must not shift
            if dumped and room < len(text):
                break
            room -= len(text)
            dumped.append(text)
        return dumped

    def _write_of(self, entry: Entry, events: Sequence[str]) -> Write:
        answer = entry.answer
        last = answer.log.end is not None and entry.written + len(events) == len(answer.log)
        return Write(answer.asked, entry.written, events, last, answer.stopped, not entry.reserved)

    async def _take(
        self, entry: Entry, write: Write, now: float, state: str, have: int = 0, stop: str = "", read: int = -1
    ) -> None:
        answer = entry.answer
        match state:
            case "FENCED":  # a reader has ended it, because this process stood still
                log.warning("answer %s was ended elsewhere", answer.id)
                answer.log.cut()
                answer.lose()
                self.forget(answer.id)
            case "LOST":  # Redis has lost its data
                entry.written = 0
            case "GAP":  # Redis has lost what was written last
                entry.written = have
            case _:
                entry.written, entry.renewed = write.place + len(write.events), now
                if write.last:
                    self.forget(answer.id)
                elif stop:
                    await answer.stop()
                if 0 <= read < READ_LATELY:
                    answer.expect_reader()

    def forget(self, answer_id: str) -> None:
        if entry := self._entries.pop(answer_id, None):
            self._gone(entry.answer)

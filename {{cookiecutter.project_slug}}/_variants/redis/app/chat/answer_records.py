"""The calls by which answers are kept in Redis. `answer_keys.py` says what lies there."""

from collections.abc import Sequence
from typing import Any, cast

from pydantic_core import to_json
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from app import telemetry
from app.chat.answer_calls import Look, Reply, Times, Write
from app.chat.answer_events import dump
from app.chat.answer_keys import Keys
from app.chat.answer_reserve import RESERVE
from app.chat.answer_scripts import APPEND, CHECK, LOOK, STOP
from app.chat.known_answer import Asked, Name
from app.redis_client import answering
from app.streams.events import Done, Error

BUDGET_BYTES = 256 * 1024 * 1024  # of all answers in Redis, which keeps the jobs as well
LOOK_BYTES = 1024 * 1024  # of one look at all mirrors, and LOOK_EVENTS: more would hold up the process
LOOK_EVENTS = 2000
FULL, CROWDED, ADMIT = "FULL", "CROWDED", "ADMIT"
# What a reader writes behind an answer whose process is gone.
PRODUCER_LOST = Error("producer_lost", "The server that made the answer is gone.", True, "-"), Done("error")


class Records:
    """Calls raise StoreAway when Redis does not answer in time. What it refuses, `append` and `look` give as errors,
    one for each; the others raise it."""

    def __init__(
        self, client: Redis, queue_name: str, retention: float, times: Times, holder: str, most: int = 0
    ) -> None:
        """`retention` is in seconds, from an answer's end. The `holder` is this process. `most` is how many answers of
        a caller may run at once, or 0."""
        self.holder = holder
        self.times = times
        # In seconds. Readers elsewhere must have time to see the end.
        self.kept_ended = max(retention, times.lease)
        self.kept_unwritten = 10 * times.lease
        self._client = client
        self._keys = Keys(queue_name)
        scripts = (RESERVE, APPEND, LOOK, STOP, CHECK)
        self._reserve, self._append, self._look, self._stop, self._check = map(client.register_script, scripts)
        ended, unwritten = int(1000 * self.kept_ended), int(1000 * self.kept_unwritten)  # milliseconds
        self._writing = {"holder": holder, "lease": int(1000 * times.lease), "expires_in": unwritten}
        self._writing |= {"retention": ended, "most": most or None}
        error, done = map(dump, PRODUCER_LOST)
        self._looking = {"suspicion": int(1000 * times.suspicion), "error": error, "done": done}
        # A writer that only stood still, and goes on, must find the end that a reader has written.
        self._looking |= {"retention": max(unwritten, ended)}

    async def reserve(
        self,
        asked: Asked,
        instead_of: str | None,
        *,
        full: bool,
        crowded: bool = False,
        over: Sequence[str] = (),
        to_admit: bool = False,
    ) -> str | None:
        """Returns None when the answer has its name, and this process may write it. If another answer than `instead_of`
        has the name, returns that one's id. Else returns FULL if there is no space in Redis, or none here: `full`; or
        CROWDED if too many of the caller's run, be it here alone: `crowded`; or ADMIT if the caller is `to_admit`
        first. `over` are ids of the caller's answers that have ended here."""
        ask = {**self._writing, **_of(asked), "instead_of": instead_of, "full": full, "crowded": crowded}
        ask |= {"budget": BUDGET_BYTES, "prefix": self._keys.answers, "over": over, "to_admit": to_admit}
        _, state = self._keys.of(asked.id)
        async with answering():
            keys = [state, self._keys.name(asked.name), *self._keys.indexes, self._keys.running(asked.caller)]
            return cast(str | None, await self._reserve(keys, [_json(ask)]))

    async def give_back(self, asked: Asked) -> None:
        """Of an answer that will not be written. Its name leads to nothing then, as that of one that is gone."""
        async with answering(), self._client.pipeline() as pipe:
            pipe.delete(*self._keys.of(asked.id))
            for running in (self._keys.indexes[0], self._keys.running(asked.caller)):
                pipe.zrem(running, asked.id)
            await pipe.execute()

    async def append(self, writes: Sequence[Write]) -> list[Reply | Exception]:
        calls = []
        for write in writes:
            ask = {**self._writing, "id": write.asked.id, "from": write.place, "named": bool(write.asked.name)}
            ask |= {"last": write.last, "stopped": write.stopped, "takes_name": not write.reserved}
            if not write.place:  # it may have to be written anew
                ask |= _of(write.asked)
            keys = [*self._keys.of(write.asked.id), self._keys.name(write.asked.name), *self._keys.indexes]
            keys.append(self._keys.running(write.asked.caller))
            calls.append((keys, [_json(ask), *write.events]))
        replies = await self._together(self._append, calls)
        return [reply if isinstance(reply, Exception) else Reply(*reply) for reply in replies]

    async def look(
        self, wanted: Sequence[tuple[str, int, bool]], caller: str | None = None
    ) -> list[Look | Exception | None]:
        """For each id, what lies behind a place, and None where nothing is known of it. The third says whether somebody
        reads it, which Redis then notes. With `caller`, nothing is known of another caller's."""
        share = max(1, len(wanted))
        limits = {"limit": max(1, LOOK_BYTES // share), "most": max(16, LOOK_EVENTS // share)}
        calls = []
        for answer_id, place, is_read in wanted:
            ask = {**self._looking, **limits, "id": answer_id, "from": place, "stamp": is_read, "caller": caller}
            calls.append(([*self._keys.of(answer_id), *self._keys.indexes], [_json(ask)]))
        replies = await self._together(self._look, calls)
        looks = [reply if isinstance(reply, Exception) else Look(*reply) if reply else None for reply in replies]
        for (answer_id, _, _), look in zip(wanted, looks, strict=True):
            if isinstance(look, Look) and look.ends:
                telemetry.answer_lost(answer_id)
        return looks

    async def stop(self, answer_id: str) -> None:
        async with answering():
            await self._stop(self._keys.of(answer_id)[1:])

    async def named(self, name: Name) -> str | None:
        async with answering():
            return cast(str | None, await self._client.get(self._keys.name(name)))

    async def check(self) -> None:
        """Raises StoreAway if Redis does not take what is written."""
        async with answering():
            await self._check([self._keys.check])

    async def _together(self, script: AsyncScript, calls: Sequence[tuple[list[str], list[str]]]) -> list[Any]:
        """In one round trip. redis-py's own way with scripts would ask first, each time, whether Redis has them."""
        async with answering():
            while True:
                async with self._client.pipeline(transaction=False) as pipe:
                    for keys, arguments in calls:
                        pipe.evalsha(script.sha, len(keys), *keys, *arguments)
                    replies = await pipe.execute(raise_on_error=False)
                if not any(isinstance(reply, NoScriptError) for reply in replies):
                    return replies
                await self._client.script_load(script.script)  # each call is one that can be repeated


def _of(asked: Asked) -> dict[str, Any]:
    return {"id": asked.id, "caller": asked.caller, "fingerprint": asked.fingerprint, "named": bool(asked.name)}


def _json(ask: dict[str, Any]) -> str:
    """Leaves out None, which Lua would take for true, and False."""
    return to_json({field: value for field, value in ask.items() if value is not None and value is not False}).decode()

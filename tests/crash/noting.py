"""The project's application with a model that does what the question says, and notes when it is opened and closed:
`uvicorn noting:app`."""
# mypy: disable-error-code="import-not-found", disallow-any-unimported=False

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal

from app.chat.room import chat
from app.jobs.room import jobs
from app.main import create_app


def note(what: Literal["opened", "closed"], name: str) -> None:
    """An entry as the journal of a job has them, in one write: whole, and there whatever dies next."""
    line = {"what": what, "job": name, "attempt": 1, "number": 0, "at": time.time(), "session": os.getsid(0)}
    file = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


class Noting:
    service = model = "noting"

    async def stream(self, messages: Sequence[Any], asker: Any) -> AsyncGenerator[str, None]:
        """So many pieces, so many seconds before each, and then nothing for a while."""
        asked = json.loads(messages[-1].content)
        note("opened", asked["name"])
        try:
            for number in range(asked["pieces"]):
                await asyncio.sleep(asked["seconds"])
                yield f"{asked['name']}.{number} "
            await asyncio.sleep(asked["silence"])
        finally:
            note("closed", asked["name"])


app = create_app(rooms=[chat(Noting()), jobs()])

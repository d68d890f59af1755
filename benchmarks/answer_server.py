"""The servers of `redis_answers.py`: prints its port, and serves the project in whose folder it runs, by its Python.

Of the project's rooms there is only the chat, with a model that is asked for `TOKENS-PAUSE`: so many tokens, so many
seconds from one to the next. Each token says when it was made, by a clock that all processes of a machine share.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from contestants import serve, usage
from fastapi import Request
from starlette.types import ASGIApp

FASTAPI_ALONE = "BENCHMARK_FASTAPI_ALONE"  # set, where of telemetry there is to be FastAPI's own, as it comes


class Model:
    service = model = "of times"

    async def stream(self, messages: Sequence[Any], asker: Any) -> AsyncGenerator[str, None]:
        tokens, pause = messages[-1].content.split("-")
        began = time.monotonic()
        for number in range(1, int(tokens) + 1):
            await asyncio.sleep(began + number * float(pause) - time.monotonic())
            yield f"{time.monotonic():.6f}"


def application() -> ASGIApp:
    sys.path.insert(0, os.getcwd())
    if os.environ.get(FASTAPI_ALONE):
        from app import rooms  # type: ignore[import-not-found]

        rooms.telemetry_of_fastapi = lambda: {"logs": False, "operation_spans": False, "auto_configure": True}
    from app.chat.room import chat  # type: ignore[import-not-found]
    from app.main import create_app  # type: ignore[import-not-found]

    app = create_app(rooms=[chat(Model())])
    following = set()

    async def follow(request: Request) -> None:
        """Reads these answers to their ends for no connection at all."""
        for answer_id in await request.json():
            answer = await request.state.answers.get(answer_id, "anonymous")
            following.add(task := asyncio.create_task(answer.ended()))
            task.add_done_callback(following.discard)

    app.get("/usage")(usage)
    app.post("/follow")(follow)
    return app  # type: ignore[no-any-return]


if __name__ == "__main__":
    serve(application())

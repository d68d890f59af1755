"""The application with routes that only tests need; served by `uvicorn tests.apps:app`."""

import asyncio
import logging

from fastapi import BackgroundTasks

from app.dependencies import BackgroundDep
from app.main import create_app
from tests.providers import ScriptedProvider

log = logging.getLogger("app.tests")


class Talkative(ScriptedProvider):
    async def stream(self, messages):  # type: ignore[no-untyped-def]
        try:
            async for piece in super().stream(messages):
                yield piece
        finally:
            await asyncio.sleep(0.01)
            log.info("the model is closed")


app = create_app(provider=Talkative("a", 60.0))


@app.post("/failing-task")
def failing_task(tasks: BackgroundTasks, background: BackgroundDep) -> None:
    tasks.add_task(background.run, broken)
    tasks.add_task(background.run, log.info, "the task after it ran")


@app.post("/long-task")
def long_task(tasks: BackgroundTasks, background: BackgroundDep) -> None:
    tasks.add_task(background.run, long)


async def broken() -> None:
    raise RuntimeError("on purpose")


async def long() -> None:
    log.info("the long task began")
    await asyncio.sleep(60)

"""The project's application with a broker that never takes a message, though it is there: `uvicorn stuck:app`."""
# mypy: disable-error-code="import-not-found", disallow-any-unimported=False

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from app.jobs import backend

log = logging.getLogger(__name__)
opened = backend.open_backend


async def dispatch(jobs: Any) -> None:
    log.warning("claimed and not handed over: %s", [job.id for job in jobs])
    await asyncio.Event().wait()


@asynccontextmanager
async def open_backend(*arguments: Any) -> AsyncIterator[Any]:
    async with opened(*arguments) as stuck:
        stuck.dispatch = dispatch
        yield stuck


backend.open_backend = open_backend

from app.main import app as app  # noqa: E402

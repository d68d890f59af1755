"""Where it is counted what callers begin: in the memory of this process."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits.aio.storage import MemoryStorage

from app.admission import Admit
from app.limits.rate import Rate
from app.limits.settings import LimitSettings

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_rate(settings: LimitSettings, processes: int = 1) -> AsyncIterator[Admit]:
    """`processes` is how many the server runs."""
    if processes > 1:
        log.warning("%d processes serve, and each counts alone: REQUESTS_PER_MINUTE is for each of them", processes)
    yield Rate(MemoryStorage(), settings.requests_per_minute).admit

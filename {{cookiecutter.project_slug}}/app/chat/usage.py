"""Logs what each answer took. It is best effort, because it happens after the response.

A service that bills by tokens counts those of a cancelled answer too, but doesn't say how many they are.
"""

import logging

from app.chat.generation import Generation

log = logging.getLogger("app.usage")


async def record_usage(generation: Generation) -> None:
    answer = {"stream": generation.id, "model": generation.model, "reason": generation.reason}
    log.info("usage", extra={**answer, **generation.usage})

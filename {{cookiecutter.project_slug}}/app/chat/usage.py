"""What answers take: a line in the log for each. Best effort, as it is written after the response.

A service that bills by tokens counts those of a cancelled answer too, and doesn't say how many.
"""

import logging

from app.chat.generation import Generation

log = logging.getLogger("app.usage")


async def record_usage(generation: Generation) -> None:
    counts = " ".join(f"{name}={count}" for name, count in generation.usage.items())
    log.info("usage stream=%s model=%s reason=%s %s", generation.id, generation.model, generation.reason, counts or "-")

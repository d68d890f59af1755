"""The signs of life that RQ's workers leave in Redis, for a probe: to import RQ would take it too long.

rq:workers:QUEUE       a set: the keys of the queue's workers
rq:worker:NAME         a hash: `last_heartbeat` is when the worker gave a sign of life last
"""

import time
from collections.abc import Mapping
from datetime import datetime

from app.jobs.plain_redis import ask

WORKER_SILENT_SECONDS = 90  # a busy one gives a sign every 30 s
WORKERS_KEY, WORKER_KEY = "rq:workers:{}", "rq:worker:{}"


def live_workers(settings: Mapping[str, str], host: str) -> int:
    """How many workers of that host, on the project's queue, have given a sign of life of late. Raises Away."""
    url = settings["REDIS_URL"]
    (keys,) = ask(url, ["SMEMBERS", WORKERS_KEY.format(settings["QUEUE_NAME"])])
    # By the name: RQ forgets the host of a worker that Redis has forgotten during an outage.
    own = [key for key in keys if key.startswith(WORKER_KEY.format(f"{host}."))]
    signs = ask(url, *(["HGET", key, "last_heartbeat"] for key in own))
    return sum(time.time() - datetime.fromisoformat(sign).timestamp() < WORKER_SILENT_SECONDS for sign in signs if sign)

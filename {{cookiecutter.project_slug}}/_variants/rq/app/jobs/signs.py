"""The signs of life that RQ's workers leave in Redis, for a probe: to import RQ would take it too long.

rq:workers:QUEUE       a set: the keys of the queue's workers
rq:worker:NAME         a hash, which Redis forgets if the worker gives no sign of life
"""

from app.jobs.plain_redis import ask
from app.jobs.settings import JobSettings

WORKERS_KEY, WORKER_KEY = "rq:workers:{}", "rq:worker:{}"


def live_workers(settings: JobSettings, host: str) -> int:
    """How many workers of that host, on the project's queue, Redis has not forgotten. Raises Away."""
    url = str(settings.redis_url)
    (keys,) = ask(url, ["SMEMBERS", WORKERS_KEY.format(settings.queue_name)])
    # By the name: RQ forgets the host of a worker that Redis has forgotten during an outage.
    own = [key for key in keys if key.startswith(WORKER_KEY.format(f"{host}."))]
    return sum(seconds > 0 for seconds in ask(url, *(["TTL", key] for key in own)))

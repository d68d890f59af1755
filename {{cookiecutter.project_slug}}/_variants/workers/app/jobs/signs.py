"""The signs of life that workers leave in Redis, for a probe: it must not import much.

NAME:workers           a sorted set: the host and the process of each worker, and when it showed itself last
"""

from app.jobs.plain_redis import ask
from app.jobs.settings import JobSettings

SILENT_SECONDS = 30.0  # for this time, a worker that was killed counts as alive
WORKERS_KEY = "{}:workers"


def live_workers(settings: JobSettings, host: str) -> int:
    """How many workers of that host have shown themselves of late. Raises Away."""
    url, key = str(settings.redis_url), WORKERS_KEY.format(settings.queue_name)
    ((now, _),) = ask(url, ["TIME"])  # not this machine's, which may differ from that of the workers
    # Not without end: that clock may have been ahead, before a failover.
    (names,) = ask(url, ["ZRANGEBYSCORE", key, str(now - SILENT_SECONDS), str(now + SILENT_SECONDS)])
    return sum(name.rpartition(".")[0] == host for name in names)

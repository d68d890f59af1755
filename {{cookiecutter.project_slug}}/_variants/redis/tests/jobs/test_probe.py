import os
import subprocess
import sys
from uuid import uuid4

import pytest
from redis import Redis

from app.jobs.probe import health
from tests.server import ROOT

IMPORTED = """
import runpy, sys
before, sys.argv = {*sys.modules}, ["app.worker", "health"]
try:
    runpy.run_module("app.worker", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    assert "worker" in str(ended.code)
found = {name.partition(".")[0] for name in {*sys.modules} - before if not name.startswith("_sysconfigdata")}
print(*sorted({name for name in found if name == "asyncio" or name not in sys.stdlib_module_names}))
"""


def test_a_probe_imports_the_settings_and_redis_s_client_alone(jobs_env: dict[str, str]) -> None:
    """It has a second in Kubernetes, and what a worker imports may take two of CPU."""
    env = {**os.environ, **jobs_env, "QUEUE_NAME": "nobody"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    of_the_settings = {"annotated_types", "dotenv", "pydantic", "pydantic_core", "pydantic_settings"}
    of_both = {"opentelemetry", "typing_extensions", "typing_inspection"}
    # The one to see whether it is installed, the package alone; the other with Python 3.11.0 to 3.11.2.
    of_redis = {"cryptography", "async_timeout"}
    assert {*done.stdout.split()} <= {"app", "asyncio", "redis"} | of_the_settings | of_both | of_redis


def test_a_redis_that_is_away_is_not_the_fault_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert health() is None
    assert capsys.readouterr().out.startswith("unknown: Redis: ")


def test_a_redis_that_refuses_is_not_the_fault_of_a_worker(
    redis_url: str, jobs_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workers can't show themselves in one that is full, or read-only after a failover."""
    user = f"test-{uuid4().hex}"
    with Redis.from_url(redis_url) as client:
        client.acl_setuser(user, enabled=True, nopass=True, commands=["+@all", "-@write"], keys=["*"])
        try:
            for name, value in (jobs_env | {"QUEUE_NAME": "nobody"}).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("REDIS_URL", redis_url.replace("redis://", f"redis://{user}:-@"))
            assert health() is None
            assert "permission" in capsys.readouterr().out
            monkeypatch.setenv("REDIS_URL", redis_url)
            assert str(health()).startswith("no worker of ")
        finally:
            client.acl_deluser(user)

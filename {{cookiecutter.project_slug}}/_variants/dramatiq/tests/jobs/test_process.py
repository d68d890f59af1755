import os
import subprocess
import sys
import time
from socket import gethostname
from uuid import uuid4

from app import worker
from app.jobs.settings import MAX_TIMEOUT_SECONDS, JobSettings
from app.jobs.signs import live_workers
from tests.server import ROOT

# A child whose main thread waits for ever, as in a boot whose parent is dead, and which only notes SIGTERM.
BOOTS = """
import os, signal, threading
from app import worker
from app.jobs.attempts import Attempts
from app.jobs.settings import JobSettings

worker.LOOK_SECONDS = worker.STOP_SECONDS = 0.1
worker.tune = lambda _: None
reader, writer = os.pipe()
if os.fork():
    os.read(reader, 1)
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM", flush=True))
settings = JobSettings.read()
worker.Process(settings, Attempts(settings)).before_worker_boot(None, None)
os.write(writer, b"!")
while True:
    threading.Event().wait(1)
"""

# As on Python 3.14 by default: a server forks the processes, and is their parent.
FORKED_BY_A_SERVER = """
import multiprocessing
from app import worker

multiprocessing.set_start_method("forkserver")
worker.main(["--processes", "1", "--threads", "1"])
"""


def test_a_process_whose_parent_dies_while_it_boots_ends_too(job_settings: JobSettings) -> None:
    own = {"REDIS_URL": str(job_settings.redis_url), "QUEUE_NAME": f"{job_settings.queue_name}-boots"}
    command = [sys.executable, "-c", BOOTS]
    # Returns when the last of them has closed its output.
    said = subprocess.check_output(command, cwd=ROOT, env={**os.environ, **own}, text=True, timeout=20)
    assert said == "SIGTERM\n"


def test_a_process_that_a_server_has_forked_lives_as_long_as_its_worker(
    jobs_env: dict[str, str], job_settings: JobSettings
) -> None:
    settings = job_settings.model_copy(update={"queue_name": f"test-{uuid4().hex[:8]}"})
    env = {**os.environ, **jobs_env, "QUEUE_NAME": settings.queue_name}
    command = [sys.executable, "-c", FORKED_BY_A_SERVER]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        began = time.monotonic()
        try:
            while not live_workers(settings, gethostname()):
                assert process.poll() is None
                assert time.monotonic() - began < 60
                time.sleep(0.05)
        finally:
            process.kill()
        process.communicate(timeout=60)  # returns when the last of them has closed its output


def test_a_worker_that_is_told_to_stop_waits_for_its_jobs_however_long_they_may_take() -> None:
    assert worker.parsed([]).worker_shutdown_timeout >= MAX_TIMEOUT_SECONDS * 1000
    assert worker.parsed(["--worker-shutdown-timeout", "5"]).worker_shutdown_timeout == 5

import os
import subprocess
import sys

from app.jobs.settings import JobSettings
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


def test_a_process_whose_parent_dies_while_it_boots_ends_too(job_settings: JobSettings) -> None:
    own = {"REDIS_URL": str(job_settings.redis_url), "QUEUE_NAME": f"{job_settings.queue_name}-boots"}
    command = [sys.executable, "-c", BOOTS]
    # Returns when the last of them has closed its output.
    said = subprocess.check_output(command, cwd=ROOT, env={**os.environ, **own}, text=True, timeout=20)
    assert said == "SIGTERM\n"

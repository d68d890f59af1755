import subprocess
import sys

from tests.server import ROOT


def test_a_worker_imports_no_web_framework() -> None:
    """It serves nothing, and limits nobody: to start it would take twice as long, and six megabytes more."""
    names = "import sys, app.worker; print(*sorted({'fastapi', 'starlette', 'limits'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", names], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr

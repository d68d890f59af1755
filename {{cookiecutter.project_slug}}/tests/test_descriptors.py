"""In processes of their own: a limit that is lowered can't be raised again."""

import subprocess
import sys

import pytest

from tests.server import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
SCRIPT = """
import resource, sys
soft, hard, streams = map(int, sys.argv[1:])
_, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or allowed))
from app.descriptors import share_descriptors
shares = share_descriptors(streams)
print(shares.unfinished, shares.streams, *resource.getrlimit(resource.RLIMIT_NOFILE)[:1])
"""


def shared(soft: int, hard: int, streams: int) -> tuple[list[int], str]:
    """`hard` 0 is what there is."""
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(streams)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()], done.stderr


def test_the_soft_limit_is_raised_as_far_as_is_needed() -> None:
    """Each stream may need a second descriptor, for its answer's connection to the model."""
    assert shared(256, 0, 10) == ([(20 + 2048 + 256) // 2, 10, 20 + 2048 + 256], "")


def test_a_soft_limit_that_will_do_stays() -> None:
    assert shared(3000, 0, 10) == ([1500, 10, 3000], "")


def test_where_the_hard_limit_is_too_low_fewer_streams_fit() -> None:
    found, told = shared(256, 1024, 2000)
    assert found == [512, (1024 - 512 - 256) // 2, 1024]
    assert "MAX_STREAMS is 128 and not 2000: 1024 descriptors are allowed" in told

import sys
from typing import Any

import pytest

from app.jobs.settings import JobSettings
from app.jobs.transport import sender_broker


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_USER_TIMEOUT")
def test_a_call_to_a_rabbitmq_whose_host_is_gone_ends(job_settings: JobSettings) -> None:
    """Keep-alives find out only while nothing that was sent waits for its acknowledgement."""
    broker: Any = sender_broker(job_settings)
    options = broker.parameters.tcp_options
    probed = options["TCP_KEEPIDLE"] + options["TCP_KEEPINTVL"] * options["TCP_KEEPCNT"]
    assert options["TCP_USER_TIMEOUT"] == probed * 1000

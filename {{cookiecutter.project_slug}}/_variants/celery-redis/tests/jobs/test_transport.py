import ssl
from typing import Any

import pytest
import redis
from pydantic import RedisDsn

from app.jobs.broker import celery_app
from app.jobs.settings import JobSettings


@pytest.mark.parametrize(
    ("parameters", "looks_at"),
    [("", ssl.CERT_REQUIRED), ("?ssl_ca_certs=ca.pem", ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", ssl.CERT_NONE)],
)
def test_the_certificate_of_redis_is_looked_at_as_the_url_says(
    parameters: str, looks_at: ssl.VerifyMode, job_settings: JobSettings
) -> None:
    """And if it says nothing, too."""
    url = RedisDsn(f"rediss://localhost/0{parameters}")
    options: Any = celery_app(job_settings.model_copy(update={"redis_url": url})).connection_for_write().ssl
    assert redis.SSLConnection(**options).cert_reqs == looks_at

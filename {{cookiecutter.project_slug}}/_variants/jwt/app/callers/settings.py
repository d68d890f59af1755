"""The identity provider whose access tokens callers send."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from app.settings import EnvSettings

# Without TLS, whoever stands between could answer with keys of their own. Within this machine nobody does.
SAFE = re.compile(r"(https://[^/?#@\s]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?)([/?][!-~]*)?")


def safe(url: str) -> str:
    if url and not SAFE.fullmatch(url):
        raise ValueError("must be an https:// address, or an http:// one of localhost")
    return url


class CallerSettings(EnvSettings):
    auth_issuer: Annotated[str, AfterValidator(safe)] = ""
    auth_audience: str = ""
    auth_jwks_url: Annotated[str, AfterValidator(safe)] = ""

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        """Without an audience, a token that was made for another service would do."""
        if bool(self.auth_issuer) != bool(self.auth_audience) or (self.auth_jwks_url and not self.auth_issuer):
            raise ValueError("AUTH_ISSUER and AUTH_AUDIENCE: each needs the other, and AUTH_JWKS_URL needs both")
        return self

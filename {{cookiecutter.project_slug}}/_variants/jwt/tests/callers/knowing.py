"""Callers for the tests of what is the same whatever they are known by."""

import atexit
import time

from app.callers.known import KnownCallers
from app.callers.settings import CallerSettings
from tests.callers.provider import AUDIENCE, Key, Provider

PROVIDER = Provider(Key("one", "ES256"))
atexit.register(PROVIDER.close)

NAME, OTHER_NAME = "idp|alice", "idp|bob"
DAY = int(time.time()) + 24 * 3600
TOKEN, OTHER_TOKEN = (PROVIDER.token(sub=name, exp=DAY) for name in (NAME, OTHER_NAME))
UNKNOWN_TOKEN = PROVIDER.token(Key("one", "ES256"), sub=NAME)  # signed by somebody else
ENV = {"AUTH_ISSUER": PROVIDER.issuer, "AUTH_AUDIENCE": AUDIENCE}  # of a server that knows the same
KNOWN = KnownCallers(PROVIDER.settings())
# Nobody must say who they are.
ANYBODY = KnownCallers(CallerSettings(_env_file=None, auth_issuer="", auth_audience="", auth_jwks_url=""))
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OTHER_HEADERS = {"Authorization": f"Bearer {OTHER_TOKEN}"}

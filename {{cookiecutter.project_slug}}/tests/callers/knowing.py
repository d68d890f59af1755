"""Callers for the tests of what is the same whatever they are known by."""

from app.callers.known import KnownCallers
from app.callers.settings import CallerSettings

NAME, OTHER_NAME = "alice", "bob"
TOKEN, OTHER_TOKEN, UNKNOWN_TOKEN = "key-of-alice", "key-of-bob", "key-of-nobody"
ENV = {"API_KEYS": f"{NAME}:{TOKEN}, {OTHER_NAME}:{OTHER_TOKEN}"}  # of a server that knows the same
KNOWN = KnownCallers(CallerSettings(_env_file=None, api_keys=ENV["API_KEYS"]))
ANYBODY = KnownCallers(CallerSettings(_env_file=None, api_key="", api_keys=""))  # nobody must say who they are
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OTHER_HEADERS = {"Authorization": f"Bearer {OTHER_TOKEN}"}

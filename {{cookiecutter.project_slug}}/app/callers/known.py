"""Who the callers are, by their keys."""

import secrets

from app.callers.caller import Caller
from app.callers.settings import CallerSettings, digest_of_key


class KnownCallers:
    SETTING = "API_KEYS"
    needs = "a valid API key is needed"

    def __init__(self, settings: CallerSettings) -> None:
        self._names = settings.api_key | settings.api_keys
        self.required = bool(self._names)

    async def find(self, token: str) -> Caller | None:
        """Compares it with each key, so the time it takes tells nothing of which one it is, or nearly is."""
        given = digest_of_key(token)
        found = [name for kept, name in self._names.items() if secrets.compare_digest(kept, given)]
        return Caller(found[0]) if found else None

    async def check(self) -> dict[str, str]:
        return {}

"""Two callers of one application, for what belongs to one of them."""

from app.callers.caller import Caller

ME, YOU = {"Authorization": "Bearer me"}, {"Authorization": "Bearer you"}


class ByName:
    """Knows whoever says a name: whatever callers are known by, it may be any text."""

    required, needs = True, "a name is needed"

    async def find(self, token: str) -> Caller | None:
        return Caller(token)

    async def check(self) -> dict[str, str]:
        return {}

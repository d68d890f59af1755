"""What may go wrong, as a tree of exceptions. `app/error_handlers.py` says how each looks over HTTP.

AppError
├── NotFound       404  no such thing
├── Conflict       409  the thing is in a state that does not allow this
├── TooMany        429  a limit of the caller's: try again after `Retry-After` seconds
└── Unavailable    503  a service that we need is away: try again after `Retry-After` seconds

A room may have some of its own below these, such as NoSuchJob of `app/jobs/status.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

RETRY_SECONDS = 2  # where nobody knows when there will be space: to try again soon costs little
AT_ONCE = 'qu="concurrent-requests"'


class AppError(Exception):
    """Its text is shown to the caller. It never holds what the caller has sent."""

    status: ClassVar[int]
    headers: Mapping[str, str] = MappingProxyType({})
    limit = ""
    """The name of the limit that refuses the request, if one does."""


class NotFound(AppError):
    status = 404


class Conflict(AppError):
    status = 409


class TooMany(AppError):
    """Has the header fields of draft-ietf-httpapi-ratelimit-headers too."""

    status = 429

    def __init__(
        self, message: str, *, limit: str, quota: int, per: str = AT_ONCE, seconds: int = RETRY_SECONDS
    ) -> None:
        """Of the `limit` with this name, the caller has used its whole `quota`. `per` is a parameter of the draft: by
        default the quota is of what may be at once, and with `w=60` of 60 seconds. After `seconds` another try may
        succeed."""
        super().__init__(message)
        self.limit = limit
        self.headers = {
            "Retry-After": str(seconds),
            "RateLimit-Policy": f'"{limit}";q={quota};{per}',
            "RateLimit": f'"{limit}";r=0;t={seconds}',
        }


class Unavailable(AppError):
    status = 503
    headers = MappingProxyType({"Retry-After": str(RETRY_SECONDS)})

    def __init__(self, message: str, *, limit: str = "") -> None:
        """With the name of the `limit` if the whole service has no space."""
        super().__init__(message)
        self.limit = limit

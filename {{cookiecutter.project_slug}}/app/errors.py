"""What may go wrong, as a tree of exceptions. `app/error_handlers.py` says how each looks over HTTP.

AppError
├── NotFound       404  no such thing
├── Conflict       409  the thing is in a state that does not allow this
└── Unavailable    503  a service that we need is away: try again after `Retry-After` seconds
"""

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """Its text is shown to the caller. It never holds what the caller has sent."""

    status: ClassVar[int]
    headers: ClassVar[Mapping[str, str]] = {}


class NotFound(AppError):
    status = 404


class Conflict(AppError):
    status = 409


class Unavailable(AppError):
    status = 503
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "2"}

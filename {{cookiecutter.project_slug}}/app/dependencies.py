"""What the application's lifespan opens for every room, by the names that routes use. A room names its own things.

All of these are `async`, though few wait: FastAPI runs a plain function in a thread, for each request. There are 40
threads, and one caller with many requests would have all others wait for one.
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request
from pydantic import BeforeValidator

from app.background import Background
from app.callers.caller import CallerDep
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.places import Places
from app.streams.response import StreamLimits

COMES_BACK = {"last-event-id", "idempotency-key"}


class State(TypedDict):
    """What the lifespan yields. FastAPI puts it into `request.state`."""

    settings: Settings
    shutdown: Shutdown
    stream_limits: StreamLimits
    places: Places
    background: Background


def _state(request: Request) -> State:
    return cast(State, request.state)  # FastAPI doesn't take a `Request[State]`, though Starlette's is generic


async def _settings(request: Request) -> Settings:
    return _state(request)["settings"]


async def _shutdown(request: Request) -> Shutdown:
    return _state(request)["shutdown"]


async def _background(request: Request) -> Background:
    return _state(request)["background"]


async def _one_stream(request: Request, caller: CallerDep) -> AsyncIterator[None]:
    place = _state(request)["places"].take(caller.name, comes_back=not COMES_BACK.isdisjoint(request.headers))
    del request  # it has the body, which would be kept as long as the stream lasts
    with place:
        yield


async def _one_stream_again(request: Request, caller: CallerDep) -> AsyncIterator[None]:
    place = _state(request)["places"].take(caller.name, comes_back=True)
    del request
    with place:
        yield


def _digits(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch("[0-9]+", value):
        raise ValueError("must be a number of the digits 0 to 9")
    return value


SettingsDep = Annotated[Settings, Depends(_settings)]
ShutdownDep = Annotated[Shutdown, Depends(_shutdown)]
BackgroundDep = Annotated[Background, Depends(_background)]
OneStream = Depends(_one_stream)
"""For a route that answers with a stream: `@router.get(…, dependencies=[OneStream])`. It holds a place from before the
route is called until the response has been sent."""
OneStreamAgain = Depends(_one_stream_again)
"""The same, for a route whose clients come back without a header that says so."""
Digits = BeforeValidator(_digits)
"""For a number in a header or a query. Else `1_0`, `+1`, `1.0` and other scripts' digits are numbers too."""

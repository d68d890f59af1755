"""What the application's lifespan opens for every room, by the names that routes use. A room names its own things."""

import re
from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request
from pydantic import BeforeValidator

from app.background import Background
from app.settings import Settings
from app.shutdown import Shutdown
from app.streams.response import StreamLimits


class State(TypedDict):
    """What the lifespan yields. FastAPI puts it into `request.state`."""

    settings: Settings
    shutdown: Shutdown
    stream_limits: StreamLimits
    background: Background


def _state(request: Request) -> State:
    return cast(State, request.state)  # FastAPI doesn't take a `Request[State]`, though Starlette's is generic


def _settings(request: Request) -> Settings:
    return _state(request)["settings"]


def _shutdown(request: Request) -> Shutdown:
    return _state(request)["shutdown"]


def _background(request: Request) -> Background:
    return _state(request)["background"]


def _digits(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch("[0-9]+", value):
        raise ValueError("must be a number of the digits 0 to 9")
    return value


SettingsDep = Annotated[Settings, Depends(_settings)]
ShutdownDep = Annotated[Shutdown, Depends(_shutdown)]
BackgroundDep = Annotated[Background, Depends(_background)]
Digits = BeforeValidator(_digits)
"""For a number in a header or a query. Else `1_0`, `+1`, `1.0` and other scripts' digits are numbers too."""

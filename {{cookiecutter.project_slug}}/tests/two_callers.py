"""Two callers of one application, for what belongs to one of them."""

from typing import get_args

from fastapi import FastAPI, Request

from app.callers.caller import Caller, CallerDep

ME, YOU = {"X-Test-Caller": "me"}, {"X-Test-Caller": "you"}


def let_in_both(app: FastAPI) -> None:
    """From now on a header says whose a request is."""

    def said(request: Request) -> Caller:
        return Caller(request.headers["X-Test-Caller"])

    app.dependency_overrides[get_args(CallerDep)[1].dependency] = said

"""What a model's service says is wrong, for the log: short, on one line, and without the key."""

from http import HTTPStatus

from app.chat.providers.base import ModelError

LONGEST = 500  # characters: some services answer with a page of HTML
PASSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


def failure(error: Exception, secret: str) -> ModelError:
    """Of an SDK's error. One with the `status_code` of a request that is wrong in itself is not retryable.

    A service may repeat the key that it refuses.
    """
    text = " ".join(str(error).replace(secret, "***").split())
    status = getattr(error, "status_code", None) or 0
    wrong = 400 <= status < 500 and status not in PASSES
    return ModelError(f"{type(error).__name__}: {text[:LONGEST]}", retryable=not wrong)

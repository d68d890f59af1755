"""What a model's service says is wrong, for the log: short, on one line, and without the key."""

from http import HTTPStatus

from app.chat.providers.base import ModelError

LONGEST = 500  # characters: some services answer with a page of HTML
SHORTEST_KEY = 8  # what is shorter stands for a key where none is asked for, and may be any word
PASSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


def failure(error: Exception, secret: str) -> ModelError:
    """Of an SDK's error. One with the `status_code` of a request that is wrong in itself is not retryable.

    A service may repeat the key that it refuses.
    """
    status = getattr(error, "status_code", None) or 0
    # "Connection error." is all that the SDKs say: what lies beneath names the host, the certificate or the proxy.
    beneath = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    url = getattr(getattr(error, "request", None), "url", None)
    where = f", asked at {url.host}:{url.port or url.scheme}" if url and not status else ""
    text = " ".join(f"{error}{beneath}{where}".split())
    if len(secret) >= SHORTEST_KEY:
        text = text.replace(secret, "***")
    wrong = 400 <= status < 500 and status not in PASSES
    return ModelError(f"{type(error).__name__}: {text[:LONGEST]}", retryable=not wrong)

"""Says for the log what is wrong with a model's service: short, on one line, and without the key."""

from http import HTTPStatus

from app.chat.providers.base import ModelError

LONGEST = 500  # characters: some services answer with a page of HTML
SHORTEST_KEY = 8  # a shorter text is no key: a server that needs none is given any word
PASSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


def failure(error: Exception, secret: str) -> ModelError:
    """Makes a ModelError of an SDK's error. It is not retryable if its `status_code` says that the request is wrong.

    `secret` is the key. It is hidden, because a service may repeat the key that it refuses.
    """
    status = getattr(error, "status_code", None) or 0
    # The SDKs only say "Connection error." Its cause names the host, the certificate or the proxy.
    beneath = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    url = getattr(getattr(error, "request", None), "url", None)
    where = f", asked at {url.host}:{url.port or url.scheme}" if url and not status else ""
    text = " ".join(f"{error}{beneath}{where}".split())
    if len(secret) >= SHORTEST_KEY:
        text = text.replace(secret, "***")
    wrong = 400 <= status < 500 and status not in PASSES
    return ModelError(f"{type(error).__name__}: {text[:LONGEST]}", retryable=not wrong)

"""What a model's service says when it fails: for the log its own words, short, on one line and without the key; for a
reader the kind of failure.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import ceil
from typing import Any

import httpx2
from pydantic_core import to_json

from app.chat.providers.base import ModelError

LONGEST = 500  # characters: some services answer with a page of HTML
SHORTEST_KEY = 8  # a shorter text is no key: a server that needs none is given any word
# These may pass by themselves. With any other 4xx, the request is wrong.
PASSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
OVERLOADED = 529  # no status of HTTP
BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, OVERLOADED}

# What services say in place of a status: amid an answer, or under a status of 200.
NAMED = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": OVERLOADED,
    # MiniMax's numbers.
    "1002": 429,
    "1004": 401,
    "1008": 402,
    "1039": 429,
    "2013": 400,
    "2049": 401,
}
NO_MONEY = "insufficient_quota"  # comes with the status of a rate limit, but no pause mends it
# The services agree on no code for these three. Each alternative is what one of them says.
TOO_LONG = re.compile(
    r"context.?(length|size|window|limit)|maximum context|n_ctx|prompt is too long|too large for model|"
    r"input token count .*exceeds",
    re.IGNORECASE,
)
WRONG_KEY = re.compile(r"api.key.(not.valid|invalid)|invalid.api.key", re.IGNORECASE)
NO_SUCH_MODEL = re.compile(
    r"model.{0,80}(not.(found|exist)|does not exist|not a valid)|(invalid|unknown).model|not a valid model",
    re.IGNORECASE,
)


def failure(error: Exception, secret: str) -> ModelError:
    """Makes a ModelError of an SDK's error, or of one of its HTTP client. `secret` is the key. It is hidden, because a
    service may repeat the key that it refuses."""
    status, words = _status(error), _words(error, secret)
    url = getattr(getattr(error, "request", None), "url", None)
    where = f", asked at {url.host}:{url.port or url.scheme}" if url else ""
    text = f"{type(error).__name__}: {f'{status}: ' if status else ''}{words}{where}"
    headers = getattr(getattr(error, "response", error), "headers", None)
    return _kind(text, status, words, headers or {})


def broken_off(odd: object, secret: str) -> ModelError:
    """For an answer without an end. `odd` is what came in the place of a piece of it: an error, perhaps, or nothing."""
    status, words = _status_in(odd), shortened(to_json(odd, fallback=str).decode(), secret) if odd else ""
    text = "the answer broke off: it ended without a reason"
    return _kind(f"{text}, but {words}" if odd else text, status, words, {})


def _kind(text: str, status: int, words: str, headers: Mapping[str, str]) -> ModelError:
    """`status` is 0 if the service has given none, or a connection has failed."""
    wrong = 400 <= status < 500 and (status not in PASSES or NO_MONEY in words)
    if TOO_LONG.search(words) and status not in PASSES:
        return ModelError(text, False, "context_too_long", "The conversation is too long for the model.")
    if status in BUSY and not wrong:
        seconds = _retry_after(headers)
        when = "a moment" if seconds is None else f"{ceil(seconds)} s"
        return ModelError(text, True, "model_busy", f"The model is busy. Try again in {when}.", retry_after=seconds)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or (wrong and WRONG_KEY.search(words)):
        return ModelError(text, False, "model_unauthorized", "The model's service refuses this server's key.")
    if status == HTTPStatus.NOT_FOUND or (wrong and NO_SUCH_MODEL.search(words)):
        return ModelError(text, False, "model_not_found", "The model's service does not have this model.")
    return ModelError(text, retryable=not wrong)


def shortened(text: str, secret: str) -> str:
    """On one line, and without the secret. Of a page of HTML, what a reader would see of it."""
    if len(secret) >= SHORTEST_KEY:  # before the text is cut, for a part of a key is one too
        text = text.replace(secret, "***")
    if re.search(r"<html|<!doctype", text[:1000], re.IGNORECASE):
        # A tag that does not end must not be looked for again from each place in it: a MiB of "<" took minutes.
        text = re.sub(r"(?s)<(style|script)\b.*?(?:</\1>|\Z)|<[^<>]*>", " ", text)
    return " ".join(text.split())[:LONGEST]


def _status(error: Exception) -> int:
    status: int = getattr(error, "status_code", None) or 0
    return status if status >= HTTPStatus.BAD_REQUEST else _status_in(getattr(error, "body", None))


def _status_in(value: Any) -> int:
    if isinstance(value, list) and value:  # Gemini's
        value = value[0]
    inner = value.get("error", value.get("base_resp", value)) if isinstance(value, dict) else None  # MiniMax's
    if not isinstance(inner, dict):
        return 0
    for name in ("status", "status_code", "code", "type"):
        found = str(inner.get(name))
        if found in NAMED:
            return NAMED[found]
        if re.fullmatch(r"[45]\d\d", found, re.ASCII):
            return int(found)
    return 0


def _words(error: Exception, secret: str) -> str:
    response, body = getattr(error, "response", None), getattr(error, "body", None)
    if response is not None and response.is_error:
        try:
            return shortened(response.text, secret) or "an empty body"
        except httpx2.StreamError:  # nobody has read it
            return shortened(str(error), secret)
    if body is not None:
        return shortened(to_json(body, fallback=str).decode(), secret)
    # The SDKs only say "Connection error." Its cause names the host, the certificate or the proxy.
    beneath = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    return shortened(f"{error}{beneath}", secret)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """In seconds. The header has a number, or the time of day (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,6}(\.\d+)?", value, re.ASCII):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):  # for a date without a zone, what is none, and the year 99999999999
        return None

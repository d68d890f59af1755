"""The keys of callers. What is kept of each is its SHA-256, and the setting may hold that instead of the key."""

import hashlib
import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from app.settings import EnvSettings, fits_a_header

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"


def digest_of_key(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def _kept(key: str) -> str:
    kept = key.lower()
    if not kept.startswith("sha256:"):
        return digest_of_key(fits_a_header(SecretStr(key)).get_secret_value())
    if not re.fullmatch("sha256:[0-9a-f]{64}", kept):
        raise ValueError("must have 64 hexadecimal digits behind sha256:")
    return kept


def _single(text: str) -> dict[str, str]:
    return {_kept(text.strip()): "default"} if text.strip() else {}


def _named(text: str) -> dict[str, str]:
    """The texts of its errors hold no part of the setting: that may be a key."""
    names: dict[str, str] = {}
    for place, entry in enumerate(text.split(",") if text.strip() else [], 1):
        name, _, key = (part.strip() for part in entry.partition(":"))
        if not re.fullmatch(NAME, name) or not key:
            raise ValueError(f"number {place} must be alice:KEY or alice:sha256:DIGEST; a name must match {NAME}")
        try:
            kept = _kept(key)
        except ValueError as error:
            raise ValueError(f"the key of number {place} {error}") from None
        if kept in names:
            raise ValueError(f"number {place} has the key of another before it")
        names[kept] = name
    return names


Names = Annotated[dict[str, str], NoDecode]  # for the digest of each key, its caller's name


class CallerSettings(EnvSettings):
    api_key: Annotated[Names, BeforeValidator(_single)] = Field({}, repr=False, validate_default=False)
    api_keys: Annotated[Names, BeforeValidator(_named)] = Field({}, repr=False, validate_default=False)

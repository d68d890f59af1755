"""The keys of callers. What is kept of each is its SHA-256, and the setting may hold that instead of the key."""

import hashlib
import re
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from app.settings import EnvSettings, fits_a_header

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"


class NamedKey(NamedTuple):
    name: str
    digest: bytes


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _key(name: str, text: str) -> NamedKey:
    if not text.startswith("sha256:"):
        return NamedKey(name, digest(fits_a_header(SecretStr(text)).get_secret_value()))
    if not re.fullmatch("sha256:[0-9a-fA-F]{64}", text):
        raise ValueError("must have 64 hexadecimal digits behind sha256:")
    return NamedKey(name, bytes.fromhex(text.removeprefix("sha256:")))


def _single(text: str) -> list[NamedKey]:
    return [_key("default", text.strip())] if text.strip() else []


def _named(text: str) -> list[NamedKey]:
    """The texts of its errors hold no part of the setting: that may be a key."""
    keys: list[NamedKey] = []
    for place, entry in enumerate(text.split(",") if text.strip() else [], 1):
        name, _, key = (part.strip() for part in entry.partition(":"))
        if not re.fullmatch(NAME, name) or not key:
            raise ValueError(f"number {place} must be alice:KEY or alice:sha256:DIGEST; a name must match {NAME}")
        try:
            keys.append(_key(name, key))
        except ValueError as error:
            raise ValueError(f"the key of number {place} {error}") from None
        if keys[-1].digest in [other.digest for other in keys[:-1]]:
            raise ValueError(f"number {place} has the key of another before it")
    return keys


class CallerSettings(EnvSettings):
    api_key: Annotated[list[NamedKey], NoDecode, BeforeValidator(_single)] = Field(
        [], repr=False, validate_default=False
    )
    api_keys: Annotated[list[NamedKey], NoDecode, BeforeValidator(_named)] = Field(
        [], repr=False, validate_default=False
    )

"""The application's settings, typed, read once from the environment or `.env`.

Settings that only one room needs are in its folder, such as `app/chat/providers/settings.py`.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

PROJECT = "{{ cookiecutter.project_slug }}"


def fits_a_header(key: SecretStr) -> SecretStr:
    """Refuses quotes, backslashes and characters outside of ASCII. `repr` writes these in another way, so a provider
    could not find the key in the text of an error, and hide it."""
    text = key.get_secret_value()
    if "..." in text:
        raise ValueError("is an example still: put your key there")
    if not re.fullmatch(r"[!#-&(-\[\]-~]{,4096}", text):
        raise ValueError("must be one word of ASCII, without quotes and backslashes, of 4096 characters at most")
    return key


Key = Annotated[SecretStr, AfterValidator(fits_a_header)]


class EnvSettings(BaseSettings):
    """Settings that are read from the environment, or else from `.env`. A text loses the white space around it: a value
    that is mounted as a file often ends in a line break."""

    model_config = SettingsConfigDict(
        env_file=os.environ.get("ENV_FILE") or ".env",
        extra="ignore",
        allow_inf_nan=False,
        str_strip_whitespace=True,
    )

    @classmethod
    def names(cls) -> list[str]:
        """Of the environment's variables that it reads."""
        return [field.alias or name.upper() for name, field in cls.model_fields.items()]

    @classmethod
    def read(cls) -> Self:
        """Raises SystemExit if settings are wrong. Its text has a line for each, with its name and never its value."""
        _look_at(Path(str(cls.model_config["env_file"])))
        try:
            return cls()
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}".removeprefix(": ")
                for e in error.errors()
            ]
            says = "Settings that need a look (environment or .env); then start again:"
            raise SystemExit("\n".join([says, *lines])) from None


def _look_at(env_file: Path) -> None:
    """Raises SystemExit if the file can't be read. Without the keys in it, the server would be open to all."""
    try:
        readable = "\0" not in env_file.read_text("utf-8")
    except FileNotFoundError:
        if os.environ.get("ENV_FILE"):
            raise SystemExit(f"ENV_FILE: there is no file {env_file}") from None
        return
    except OSError as error:
        raise SystemExit(f"{env_file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        readable = False
    if not readable:
        raise SystemExit(f"{env_file} is no UTF-8 text. PowerShell's > and >> write UTF-16: save it as UTF-8")


def misspelt() -> dict[str, str]:
    """For each name in `.env` that is nearly a setting's, that setting. Other programs may have lines there too."""
    known = {name.lower() for part in EnvSettings.__subclasses__() for name in part.names()}
    unknown = DotEnvSettingsSource(EnvSettings).env_vars.keys() - known
    near = ((name, get_close_matches(name, known, n=1, cutoff=0.82)) for name in sorted(unknown))
    return {name.upper(): meant.upper() for name, found in near for meant in found}


class Settings(EnvSettings):
    app_name: str = Field(PROJECT, max_length=200)
    environment: Literal["development", "staging", "production"] = "development"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    allowed_hosts: Annotated[list[str], NoDecode] = []
    cors_origins: Annotated[list[str], NoDecode] = []
    max_body_bytes: int = Field(1024 * 1024, gt=0, le=1024**3)
    request_timeout_seconds: float = Field(30, gt=0, le=3600)

    # Idle limits on the way: CloudFront 30 s, some mobile gateways 29, Heroku 55, nginx and ALB 60.
    heartbeat_seconds: float = Field(10, ge=0.001, le=3600)
    send_timeout_seconds: float = Field(30, gt=0, le=3600)
    max_stream_seconds: float = Field(3600, gt=0, le=7 * 86400)
    max_streams: int = Field(2000, gt=0, le=1_000_000)
    max_streams_per_caller: int = Field(0, ge=0, le=1_000_000)  # with 0 there is no such limit
    drain_seconds: float = Field(5, ge=0, le=3600)

    # Of every answer, whichever model gives it. What else the chat needs is in its folder.
    model_timeout_seconds: float = Field(120, gt=0, le=3600)
    max_answer_chars: int = Field(100_000, gt=0, le=100_000_000)
    show_reasoning: bool = True

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: list[str]) -> list[str]:
        """As browsers send them, but without a port."""
        if not all(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) for host in hosts):
            raise ValueError("each must be the name of a host in lower case, such as chat.example.com")
        return hosts

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        """Refuses what no browser sends, for it would never match: a path, upper case, a pattern, a default port."""
        for origin in origins:
            plain = re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/*?#@\sA-Z]+", origin)
            if origin != "*" and (not plain or re.fullmatch(r"http:.*:80|https:.*:443", origin)):
                raise ValueError("each must be an origin as browsers send it, such as https://chat.example.com")
        return origins

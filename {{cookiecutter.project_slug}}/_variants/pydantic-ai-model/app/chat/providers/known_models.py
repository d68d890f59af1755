"""The model that MODEL_NAME names, as Pydantic AI makes it."""

import os
import re

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_settings import DotEnvSettingsSource

from app.chat.providers.environment import check_environment
from app.settings import EnvSettings


def known_model(name: str) -> Model:
    """Raises ValueError if Pydantic AI does not know it, or lacks a setting or a package for it. The text says which.

    Pydantic AI reads keys and addresses from the environment alone, so the lines of `.env` go there. What is empty is
    not set.
    """
    empty = [variable for variable, value in os.environ.items() if not value]
    for variable in empty:
        if variable.endswith(("_API_KEY", "_BASE_URL")):
            del os.environ[variable]
    for variable, value in DotEnvSettingsSource(EnvSettings).env_vars.items():
        if value:
            os.environ.setdefault(variable.upper(), value)
    check_environment()
    try:
        return infer_model(name)
    except UserError as error:
        if missing := re.search("`([A-Z_]+)`", error.message):
            raise ValueError(f"{missing[1]}: must be set; MODEL_PROVIDER=echo runs without one") from None
        raise ValueError(f"MODEL_NAME: {error}") from None
    except ImportError as error:
        if extra := re.search(r"pydantic-ai-slim\[[\w-]+\]", f"{error}"):
            raise ValueError(f"MODEL_NAME: its service needs a package: uv add '{extra[0]}'") from None
        raise


def key_of(model: Model) -> str:
    """The key with which its service is asked, as far as it is known."""
    key = getattr(model.provider and model.provider.client, "api_key", "")
    return key if isinstance(key, str) else ""

"""Parameters that servers of OpenAI's API disagree on: some refuse what others need."""

import re
from collections.abc import Mapping
from typing import Any

from app.chat.providers.settings import ProviderSettings

INSTEAD = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens", "stream_options": None}
# Then the name was right: by another, a server may ignore the limit.
WRONG_VALUE = re.compile(r"too large|valid range|at most|less than or equal|exceed", re.IGNORECASE)


def parameters(settings: ProviderSettings) -> Mapping[str, Any]:
    """What is sent at first."""
    # OpenAI's newer models refuse `max_tokens`, at Azure too; Ollama ignores its successor (ollama issue 7125).
    at_openai = (settings.openai_base_url.host or "").endswith(("openai.com", "azure.com"))
    limit = settings.model_max_tokens_parameter or ("max_completion_tokens" if at_openai else "max_tokens")
    temperature = settings.model_temperature
    return {
        limit: settings.model_max_tokens,
        "stream_options": {"include_usage": True},
        **({} if temperature is None else {"temperature": temperature}),
        **settings.extra,
    }


def without_refused(sent: Mapping[str, Any], refusal: str, refused: set[str]) -> Mapping[str, Any] | None:
    """What to send after a refusal that names one of them, which joins `refused`; None if it names none, or only
    refuses its value."""
    if WRONG_VALUE.search(refusal):
        return None
    for name, value in sent.items():
        if name in INSTEAD and INSTEAD[name] not in refused and re.search(rf"\b{name}\b", refusal):
            refused.add(name)
            rest = {other: each for other, each in sent.items() if other != name}
            return rest | ({other: value} if (other := INSTEAD[name]) else {})
    return None

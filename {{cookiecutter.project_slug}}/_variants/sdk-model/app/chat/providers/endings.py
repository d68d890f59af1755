"""How services say that an answer has ended. Their lists are open: what is not known here is no success."""

from typing import Literal

from app.chat.providers.base import ModelError

WHOLE = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call"}
CUT = {"length", "model_length", "max_tokens", "model_context_window_exceeded"}
REFUSED = {
    *("content_filter", "refusal", "safety", "sensitive"),
    *("recitation", "blocklist", "prohibited_content", "spii", "image_safety"),  # Gemini's
}


def reason_of(ending: object) -> Literal["end", "length", "refusal"]:
    """Raises ModelError for an ending that is not known: the answer may have a hole, or be cut."""
    name = str(ending).partition(":")[0].strip().lower()  # Gemini says more behind a colon, and in capitals
    if name in WHOLE:
        return "end"
    if name in CUT:
        return "length"
    if name in REFUSED:
        return "refusal"
    raise ModelError(f"the answer ended in a way that is not known: {str(ending)[:80]!r}")

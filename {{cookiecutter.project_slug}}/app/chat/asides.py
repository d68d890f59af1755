"""What a model does besides writing its answer, as readers see it: what it thinks, and the tools that it uses."""

import json
from dataclasses import replace
from typing import Any

from app.chat.well_formed import Pieces, well_formed
from app.streams.events import Event, Reasoning, Tool

TOOL_BYTES = 16 * 1024
NAMES_CHARS = 100_000


class Asides:
    """Those of one answer, within bounds. `full` says that they are past a bound, and the answer must end."""

    def __init__(self, max_chars: int, show_reasoning: bool) -> None:
        """Reasoning may have `max_chars`, shown or not. Past as many bytes, what tools take and give is cut, and the
        answer goes on: the model has seen the whole. The names of tools may have NAMES_CHARS, so that an answer of few
        characters can use a few."""
        self._reasoning_left = self._bytes_left = max_chars
        self._names_left = NAMES_CHARS
        self._thoughts = Pieces()
        self._show_reasoning = show_reasoning

    @property
    def full(self) -> bool:
        return self._reasoning_left < 0 or self._names_left < 0

    def shown(self, event: Event) -> Event | None:
        """The event as readers get it. None if it is not for them."""
        if isinstance(event, Reasoning):
            shown = self._reasoning(event.text)  # what is hidden counts too: else it would have no end
            return shown if self._show_reasoning else None
        return self._tool(event) if isinstance(event, Tool) else event

    def _reasoning(self, text: str) -> Reasoning | None:
        text = self._thoughts.well_formed(text)
        shown = text[: self._reasoning_left]
        self._reasoning_left -= len(text)
        return Reasoning(shown) if shown else None

    def _tool(self, tool: Tool) -> Tool | None:
        self._names_left -= len(tool.id) + len(tool.name)
        if self.full:
            return None
        tool = replace(tool, id=well_formed(tool.id), name=well_formed(tool.name))
        return replace(tool, input=self._bounded(tool.input), output=self._bounded(tool.output))

    def _bounded(self, value: Any) -> Any:
        """As JSON, or as a text that says that it is cut. A tool may take and give anything."""
        if value is None:
            return None
        try:
            text = well_formed(json.dumps(value, allow_nan=False, ensure_ascii=False, default=str))
            value = json.loads(text)  # a copy, for the tool may go on with it
        except Exception:  # NaN, a key that is no text, one that holds itself, whatever its own `__str__` raises
            value = text = well_formed(_as_text(value))
        whole = (value if isinstance(value, str) else text).encode()
        most = min(TOOL_BYTES, self._bytes_left)
        self._bytes_left -= min(len(whole), most)
        if len(whole) <= most:
            return value
        return f"{whole[:most].decode(errors='ignore')}… (cut: {most:,} of {len(whole):,} bytes)"


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an int of more digits than Python writes, a list in a list without end, its own fault
        return f"({type(value).__name__} that has no text)"

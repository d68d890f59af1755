"""Makes what the application logs visible on stderr, each line with the id of the request it belongs to.

Log what somebody will count or search for as fields: `log.info("usage", extra={"reason": "end"})` writes the line
`… usage reason=end`. A handler that writes JSON finds fields as attributes of the record.
"""

import logging
import re
from contextvars import ContextVar
from typing import Any

FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s%(fields)s"
HANDLER = "app"
OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "request_id", "fields"}

request_id: ContextVar[str] = ContextVar("request_id", default="-")


def _complete(record: logging.LogRecord) -> bool:
    """Adds what FORMAT needs. Only the application's own records show fields: a library's may hold anything."""
    own = record.name == "app" or record.name.startswith("app.")
    fields = {name: value for name, value in vars(record).items() if own and name not in OF_EVERY_RECORD}
    record.request_id = request_id.get()
    record.fields = "".join(f" {name}={_word(value)}" for name, value in fields.items())
    return True


class OneLine(logging.Formatter):
    """A record is one line, whatever callers, models and libraries have put into it: what is not printable is escaped
    as `repr` does it. A traceback has more lines, and is indented, so that none of its lines looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        return _printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the same
        return "\n".join(f"  {_printable(line)}" for line in super().formatException(ei).split("\n"))


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _word(value: object) -> str:
    """The value as one word. Text with spaces, quotes or line breaks is quoted, so that a record stays one line."""
    text = str(value)
    return text if re.fullmatch(r"[\w.:/+-]+", text) else repr(text)


def set_up(level: str) -> None:
    """Shows the application's records from `level` on, and those of libraries from WARNING on.

    uvicorn configures only its own loggers: without this, the application's records below WARNING would be lost.
    """
    logging.getLogger("app").setLevel(level)
    root = logging.getLogger()
    if any(handler.name == HANDLER for handler in root.handlers):
        return
    handler = logging.StreamHandler()
    handler.name = HANDLER
    handler.addFilter(_complete)
    handler.setFormatter(OneLine(FORMAT))
    root.addHandler(handler)

"""Makes what is logged visible on stderr. A record is a line, with the request and the caller that it belongs to.

Log what somebody will count or search for as fields: `log.info("usage", extra={"reason": "end"})` writes the line
`… usage reason=end`, or with LOG_FORMAT=json `{…, "message": "usage", …, "reason": "end"}`.
"""

import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from app.printable import as_json, printable, text_of, word

HANDLER = "app"
OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
SERVER, REQUESTS = "uvicorn", "uvicorn.access"
QUERY = re.compile(r'\?\S*(?= HTTP/|" )')  # in a line of the server about a request

request_id: ContextVar[str] = ContextVar("request_id", default="-")
caller: ContextVar[str] = ContextVar("caller", default="-")
trace_id: ContextVar[str] = ContextVar("trace_id", default="-")


def context() -> dict[str, str]:
    """Whose a line is. What else each line is to say belongs here."""
    return {"request_id": request_id.get(), "caller": caller.get(), "trace_id": trace_id.get()}


class TextLines(logging.Formatter):
    """A record is one line, whatever callers, models and libraries have put into it: what is not printable is escaped.
    A traceback has more lines, and is indented, so that none of its lines looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        whose = context() | _fields(record)
        start = f"{self.formatTime(record)} {record.levelname} {record.name} [{text_of(whose.pop('request_id'))}]"
        for name in ("trace_id", "caller"):
            if (value := whose.pop(name)) != "-":
                whose[name] = value  # at the end: it is on each line of a request
        fields = "".join(f" {text_of(key)}={word(value)}" for key, value in whose.items())
        behind = "\n".join(_behind(self, record).values())
        lines = [f"{start} {_message(record)}{fields}", *(f"  {line}" for line in behind.split("\n") if behind)]
        return "\n".join(map(printable, lines))


class JsonLines(logging.Formatter):
    """An object a record. A field whose name is taken, such as `time`, gets a `_` behind it."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **_behind(self, record),
        }
        for name, value in (context() | _fields(record) | _of_request(record)).items():
            key = text_of(name)
            while key in entry:
                key += "_"
            entry[key] = value
        return as_json(entry)


FORMATS = {"text": TextLines, "json": JsonLines}


def set_up(level: str, form: str) -> None:
    """Shows the application's records from `level` on, and those of libraries from WARNING on. All come by one handler,
    as do those of uvicorn, which has handlers of its own, and of a library that has called `logging.basicConfig`.

    A handler that writes elsewhere, such as to a file, stays; and so does uvicorn's `--no-access-log`.
    """
    logging.getLogger("app").setLevel(level)
    logging.captureWarnings(True)
    root = logging.getLogger()
    for logger in (root, *map(logging.getLogger, (SERVER, f"{SERVER}.error", REQUESTS))):
        stay = [each for each in logger.handlers if type(each) is not logging.StreamHandler or each.name == HANDLER]
        if stay != logger.handlers:
            # A new list: gunicorn's worker gives uvicorn's loggers the very list that gunicorn's have.
            logger.handlers, logger.propagate = stay, True
    if not any(each.name == HANDLER for each in root.handlers):
        handler = logging.StreamHandler()
        handler.name = HANDLER
        root.addHandler(handler)
    for each in root.handlers:
        if each.name == HANDLER:
            each.setFormatter(FORMATS[form]())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Only of the application's own records: a library's may hold anything."""
    own = f"{record.name}.".startswith("app.")
    return {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD} if own else {}


def _of_request(record: logging.LogRecord) -> dict[str, object]:
    """What uvicorn's line about a request is made of. uvicorn's own formatter takes it apart in the same way."""
    if record.name != REQUESTS or not isinstance(record.args, tuple) or len(record.args) != 5:
        return {}
    client, method, path, _, status = record.args
    return {"client": client, "method": method, "path": str(path).partition("?")[0], "status": status}


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception as error:
        return f"{text_of(record.msg)} (and arguments that do not fit: {type(error).__name__})"
    # Without a path's query: a caller may write there what is for a model.
    return QUERY.sub("", message) if f"{record.name}.".startswith(f"{SERVER}.") else message


def _behind(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    """What has many lines: the traceback, and the stack."""
    found = {}
    if record.exc_info:
        try:
            found["traceback"] = formatter.formatException(record.exc_info)
        except Exception as error:
            found["traceback"] = f"it can't be shown: {type(error).__name__}"
    if record.stack_info:
        found["stack"] = record.stack_info
    return found

"""Makes what the application logs visible on stderr, each line with the id of the request it belongs to."""

import logging
from contextvars import ContextVar

FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"
HANDLER = "app"

request_id: ContextVar[str] = ContextVar("request_id", default="-")


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def set_up(level: str) -> None:
    """uvicorn configures its own loggers only, so without this the application's would be lost below WARNING.

    `level` is for the application's own; libraries show from WARNING on.
    """
    logging.getLogger("app").setLevel(level)
    root = logging.getLogger()
    if any(handler.name == HANDLER for handler in root.handlers):
        return
    handler = logging.StreamHandler()
    handler.name = HANDLER
    handler.addFilter(_add_request_id)
    handler.setFormatter(logging.Formatter(FORMAT))
    root.addHandler(handler)

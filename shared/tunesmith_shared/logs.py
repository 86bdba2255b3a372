"""Logs: one line an event, for people (`text`, to which the runner adds the time) or machines (`json`).

Prompts, documents and keys are never logged.
"""

import logging
import sys
from contextvars import ContextVar

import orjson

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request being served, in every log line and on every call to another service."""


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname.lower():7} {record.getMessage()}"
        fields = " ".join(f"{key}={value}" for key, value in getattr(record, "fields", {}).items())
        line = f"{line} {fields}" if fields else line
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def configure(level: str, style: str) -> None:
    """Send all logs of this process to standard error at `level`, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    # Not in our lines, and found out for each of them otherwise (docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    setattr(logging, "_srcfile", None)  # noqa: B010 - the documented switch, which type checkers do not know
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "aiosqlite", "asyncio", "chromadb.telemetry", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return `extra=` for a log call: `logger.info("request", extra=fields(status=200))`."""
    return {"fields": values}

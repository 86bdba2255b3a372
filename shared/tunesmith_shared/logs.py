"""Logs: one line an event, for people (`text`, to which the runner adds the time) or machines (`json`).

Prompts, documents and keys are never logged.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import orjson

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request being served, in every log line and on every call to another service."""


def _as_text(_moment: float, level: str, _name: str, message: str, values: Mapping[str, object]) -> str:
    return " ".join([f"{level:7} {message}", *[f"{key}={value}" for key, value in values.items()]])


def _as_json(moment: float, level: str, name: str, message: str, values: Mapping[str, object]) -> str:
    head = {"time": moment, "level": level, "logger": name, "message": message, "request_id": request_id.get()}
    return orjson.dumps({**head, **values}, default=str).decode()


@dataclass
class _Style:
    """How lines are written in this process, and whether an exception is a value of its line or follows it."""

    line: Callable[[float, str, str, str, Mapping[str, object]], str] = _as_text
    exceptions_inside: bool = False


_style = _Style()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values, exception = dict(getattr(record, "fields", {})), ""
        if record.exc_info:
            exception = self.formatException(record.exc_info)
        if exception and _style.exceptions_inside:
            values["exception"], exception = exception, ""
        line = _style.line(record.created, record.levelname.lower(), record.name, record.getMessage(), values)
        return f"{line}\n{exception}" if exception else line


def configure(level: str, style: str) -> None:
    """Send all logs of this process to standard error at `level`, as `text` or `json`."""
    _style.exceptions_inside = style == "json"
    _style.line = _as_json if _style.exceptions_inside else _as_text
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    # Not in our lines, and found out for each of them otherwise (docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    setattr(logging, "_srcfile", None)  # noqa: B010 - the documented switch, which type checkers do not know
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "aiosqlite", "asyncio", "chromadb.telemetry", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def write(logger: logging.Logger, level: int, message: str, values: Mapping[str, object]) -> None:
    """Write what `logger.log(level, message, extra=fields(**values))` would, by a shorter way.

    For the line that every request has: the general way takes twenty times as long as the writing.
    """
    if not logger.isEnabledFor(level):
        return
    line = _style.line(time.time(), logging.getLevelName(level).lower(), logger.name, message, values)
    try:
        sys.stderr.write(line + "\n")
    except (OSError, ValueError):  # a full disk or a closed pipe is no reason to fail a request, as it is not elsewhere
        return


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return `extra=` for a log call: `logger.info("request", extra=fields(status=200))`."""
    return {"fields": values}

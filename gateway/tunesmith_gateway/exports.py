"""A session as a file: JSON with everything, a line of a training dataset, or Markdown for people."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import orjson

from tunesmith_shared.tables import Message, Session

Format = Literal["json", "jsonl", "markdown"]

CONTENT_TYPES: dict[Format, tuple[str, str]] = {
    "json": ("application/json", "json"),
    "jsonl": ("application/jsonl", "jsonl"),
    "markdown": ("text/markdown; charset=utf-8", "md"),
}
"""The media type of each format, and how its file's name ends."""


def exported(session: Session, messages: Sequence[Message], file_format: Format) -> bytes:
    """Return the file. As `jsonl` it is one row with `messages`, as fine-tuning takes them."""
    if file_format == "markdown":
        return _markdown(session, messages).encode()
    said = [{"role": message.role, "content": message.content} for message in messages]
    if file_format == "jsonl":
        return orjson.dumps({"messages": said}) + b"\n"
    times = {"created_at": session.created_at, "updated_at": session.updated_at}
    dated = [{**one, "created_at": message.created_at} for one, message in zip(said, messages, strict=True)]
    content = {"session_id": session.id, "model": session.model, **times, "messages": dated}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"


def _markdown(session: Session, messages: Sequence[Message]) -> str:
    began = datetime.fromtimestamp(session.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [f"# {session.id}", f"{session.model}, {began}"]
    for message in messages:
        parts += [f"## {message.role}", message.content.strip()]
    return "\n\n".join(parts) + "\n"

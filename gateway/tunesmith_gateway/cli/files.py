"""`tunesmith files`: list, upload, download, delete."""

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.output import size, when

_COLUMNS = ("ID", "NAME", "PURPOSE", "SIZE", "CREATED")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    files = group(commands, "files", "Uploads and results.")
    command(files, "list", listing, "List them, newest first.").add_argument("--purpose")
    put = command(files, "upload", upload, "Store a file.")
    put.add_argument("path", type=Path)
    put.add_argument("--purpose", default="user_data", help="assistants, fine-tune, batch or user_data (default)")
    put.add_argument("--encoding", help="what a text file is in, such as windows-1252, when it is not UTF-8")
    get = command(files, "download", download, "Write a file to standard output, or to --to.")
    get.add_argument("id")
    get.add_argument("--to", type=Path, metavar="PATH", help="the file to write; one that is there is not replaced")
    command(files, "delete", delete, "Remove a file.").add_argument("id")


def listing(context: Context, given: Namespace) -> None:
    """List the files."""
    files = context.api.pages("/v1/files", **({"purpose": given.purpose} if given.purpose else {}))
    rows = [(f["id"], f["filename"], f["purpose"], size(f["bytes"]), when(f["created_at"])) for f in files]
    context.output.table(files, _COLUMNS, rows)


def upload(context: Context, given: Namespace) -> None:
    """Store a file."""
    stored = send(context, given.path, given.purpose, given.encoding)
    context.output.record(stored, stored["id"])


def download(context: Context, given: Namespace) -> None:
    """Give a file's bytes."""
    write(context.api.download(f"/v1/files/{given.id}/content"), given.to)


def delete(context: Context, given: Namespace) -> None:
    """Remove a file."""
    removed = context.api.call("DELETE", f"/v1/files/{given.id}")
    context.output.record(removed, f"Removed {removed['id']}.")


def write(chunks: Iterator[bytes], path: Path | None) -> None:
    """Write a download to `path`, or to standard output. Raises `CommandError` when that cannot be done."""
    first = next(chunks, b"")  # a refusal comes here, before a file is made
    try:
        with path.open("xb") if path else os.fdopen(os.dup(1), "wb") as file:
            file.write(first)
            for chunk in chunks:
                file.write(chunk)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{path or 'standard output'} cannot be written: {error.strerror}.") from None


def send(context: Context, path: Path, purpose: str, encoding: str | None = None) -> dict[str, Any]:
    """Upload a local file, with its progress in a terminal, and return its object; `encoding` is that of its text."""
    content_type = f"text/plain; charset={encoding}" if encoding else "application/octet-stream"
    with opened(context, path) as file:
        upload = (path.name, file, {"purpose": purpose}, content_type)
        stored: dict[str, Any] = context.api.call("POST", "/v1/files", upload=upload)
    return stored


@contextmanager
def opened(context: Context, path: Path) -> Iterator[BinaryIO]:
    """Open a file that will be sent. Raises `CommandError` when that cannot be done."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    with file:
        if not context.output.terminal:
            yield file
            return
        from rich.progress import wrap_file  # noqa: PLC0415 - for a terminal alone

        total, console = path.stat().st_size, context.output.hints
        with wrap_file(file, total, description=path.name, console=console, transient=True) as shown:
            yield shown

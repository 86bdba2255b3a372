"""`tunesmith sessions`: list, show, export, clear."""

from argparse import Namespace
from pathlib import Path

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.files import write
from tunesmith_gateway.cli.output import when

_COLUMNS = ("SESSION", "MODEL", "BEGAN", "LAST USED")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    sessions = group(commands, "sessions", "Conversations that are kept.")
    command(sessions, "list", listing, "List them, the last used first.")
    command(sessions, "show", show, "Show a session's messages.").add_argument("id")
    save = command(sessions, "export", export, "Write a session to standard output, or to --to.")
    save.add_argument("id")
    formats = "json has everything, jsonl is a row of a training dataset, markdown (default) is for reading"
    save.add_argument("--format", choices=("json", "jsonl", "markdown"), default="markdown", help=formats)
    save.add_argument("--to", type=Path, metavar="PATH", help="the file to write; one that is there is not replaced")
    command(sessions, "clear", clear, "Forget a session.").add_argument("id")


def listing(context: Context, _given: Namespace) -> None:
    """List the sessions."""
    sessions = context.api.pages("/sessions", entries="sessions")
    rows = [(s["session_id"], s["model"], when(s["created_at"]), when(s["updated_at"])) for s in sessions]
    context.output.table(sessions, _COLUMNS, rows)


def show(context: Context, given: Namespace) -> None:
    """Show the messages."""
    session = context.api.call("GET", f"/sessions/{given.id}")
    rows = [(message["role"], message["content"]) for message in session["messages"]]
    context.output.table(session, ("ROLE", "MESSAGE"), rows)


def export(context: Context, given: Namespace) -> None:
    """Give the session as a file."""
    write(context.api.download(f"/sessions/{given.id}/export", format=given.format), given.to)


def clear(context: Context, given: Namespace) -> None:
    """Forget a session."""
    cleared = context.api.call("DELETE", "/clear_session", params={"session_id": given.id})
    count = cleared["deleted_messages"]
    context.output.record(cleared, f"Cleared {cleared['session_id']}: {count} message{'' if count == 1 else 's'}.")

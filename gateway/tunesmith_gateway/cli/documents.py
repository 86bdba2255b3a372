"""`tunesmith documents`: import, list, delete, ask."""

import time
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tunesmith_gateway.cli.chat import add_threshold, retrieval
from tunesmith_gateway.cli.chat import ask as ask_model
from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.files import opened
from tunesmith_gateway.cli.output import size, when

Json = dict[str, Any]

_POLL_SECONDS = 0.5
_COLUMNS = ("NAME", "FILE", "STATUS", "SIZE", "IMPORTED")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    documents = group(commands, "documents", "What a model can answer from.")
    add = command(documents, "import", import_document, "Give a document to a model and wait until it can be asked.")
    add.add_argument("path", type=Path)
    show = command(documents, "list", listing, "List a model's documents.")
    remove = command(documents, "delete", delete, "Take a document away from a model.")
    remove.add_argument("name", nargs="?", help="the document")
    remove.add_argument("--all", action="store_true", help="take all of them away")
    question = command(documents, "ask", ask, "Ask a question and show the pages that the answer is from.")
    question.add_argument("question")
    question.add_argument("--document", action="append", help="ask this one (default: all); may be given several times")
    add_threshold(question)
    for parser in (add, show, remove, question):
        parser.add_argument("--model", required=True)


def import_document(context: Context, given: Namespace) -> None:
    """Import a document."""
    with opened(context, given.path) as file:
        upload = (given.path.name, file, {"modelName": given.model}, "application/octet-stream")
        document = context.api.call("POST", "/importDocument", upload=upload)
    shown = context.output.hints.status(f"reading {given.path.name}") if context.output.terminal else nullcontext()
    with shown as status:
        while document["status"] == "in_progress":
            time.sleep(_POLL_SECONDS)
            document = _current(context, given.model, document["file_id"])
            if status is not None:
                status.update(f"reading {given.path.name}: {_how_far(document['progress'])}")
    if document["status"] != "completed":
        raise CommandError(f"{given.path.name}: {(document['last_error'] or {}).get('message', document['status'])}")
    context.output.record(document, f"Imported {document['documentName']} for {document['modelName']}.")


def listing(context: Context, given: Namespace) -> None:
    """List a model's documents."""
    documents = _documents(context, given.model)
    rows = [(d["documentName"], d["file_id"], d["status"], size(d["bytes"]), when(d["created_at"])) for d in documents]
    context.output.table(documents, _COLUMNS, rows)


def delete(context: Context, given: Namespace) -> None:
    """Remove one document, or all."""
    if bool(given.name) == given.all:
        raise CommandError("Name one document, or say --all.")
    names = {"modelName": given.model, **({} if given.all else {"documentName": given.name})}
    path = "/deleteAll_Documents" if given.all else "/deleteDocument"
    removed = context.api.call("DELETE", path, params=names)
    context.output.record(removed, f"Removed {len(removed['file_ids'])} from {removed['modelName']}.")


def ask(context: Context, given: Namespace) -> None:
    """Ask the documents."""
    names = given.document or [d["file_id"] for d in _documents(context, given.model) if d["status"] == "completed"]
    if not names:
        raise CommandError(f"{given.model} has no documents: 'tunesmith documents import' adds one.")
    body = {"prompt": given.question, "model": given.model, "documents": names, "retrieval": retrieval(given)}
    ask_model(context, body)


def _how_far(progress: Json) -> str:
    """Return how much of a document is in, in words."""
    pages = f"{progress['pages_done']} of {progress['pages_total'] or '?'} pages read"
    return f"{pages}, {progress['chunks_done']} of {progress['chunks_total'] or '?'} chunks embedded"


def _documents(context: Context, model: str) -> list[Json]:
    documents: list[Json] = context.api.call("GET", "/listDocuments", params={"modelName": model})["documents"]
    return documents


def _current(context: Context, model: str, file_id: str) -> Json:
    for document in _documents(context, model):
        if document["file_id"] == file_id:
            return document
    raise CommandError("The document was removed while it was being read.")

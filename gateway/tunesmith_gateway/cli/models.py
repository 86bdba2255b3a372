"""`tunesmith models`: list, pull, create, delete."""

from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.output import clean, size

if TYPE_CHECKING:  # imported where it is used, for a terminal
    from rich.progress import Progress

_COLUMNS = ("NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "BASE", "OWNER")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    models = group(commands, "models", "The models that you can use.")
    command(models, "list", listing, "List them.")
    fetch = command(models, "pull", pull, "Fetch one from a registry, for everyone here.")
    fetch.add_argument("name", help="as Ollama names it: llama3.2:1b, hf.co/<user>/<model>:<quantization>")
    fetch.add_argument("--insecure", action="store_true", help="allow a name that begins with http://")
    make = command(models, "create", create, "Make a model from another with a system prompt.")
    make.add_argument("name")
    make.add_argument("--system", required=True, help="what the model is told before every conversation")
    make.add_argument("--base", help="the model that it is made from (default: the gateway's)")
    command(models, "delete", delete, "Remove a model that you made.").add_argument("name")


def listing(context: Context, _given: Namespace) -> None:
    """List the models."""
    models = context.api.call("GET", "/list_Models")["models"]
    rows = [
        (m["name"], size(m["size"]), m["parameters"], m["quantization"], m["base"], m["owner"] or "everyone")
        for m in models
    ]
    context.output.table(models, _COLUMNS, rows)


def pull(context: Context, given: Namespace) -> None:
    """Fetch a model; what was fetched stays when it is interrupted."""
    body = {"model": given.name, "insecure": given.insecure}
    display: AbstractContextManager[Progress | None] = _bar(context) if context.output.terminal else nullcontext()
    with display as bar:
        task = bar.add_task("", total=None) if bar else None
        status = ""
        for line in context.api.lines("POST", "/api/pull", body=body):
            if bar is not None and task is not None:
                bar.update(task, description=clean(line["status"]))
                bar.update(task, completed=line.get("completed"), total=line.get("total"))  # None changes nothing
            elif context.output.as_json or line["status"] != status:
                context.output.event(line, line["status"])
            status = line["status"]
    context.output.hint(f"tunesmith chat --model {given.name}")


def _bar(context: Context) -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=context.output.console, transient=True)


def create(context: Context, given: Namespace) -> None:
    """Make a model."""
    body = {"modelName": given.name, "systemTemplate": given.system, "baseModel": given.base}
    made = context.api.call("POST", "/createModel", body={k: v for k, v in body.items() if v is not None})
    context.output.record(made, f"Made {made['name']} from {made['base']}.")


def delete(context: Context, given: Namespace) -> None:
    """Remove a model."""
    removed = context.api.call("DELETE", "/deleteModel", params={"modelName": given.name})
    context.output.record(removed, f"Removed {removed['modelName']}.")

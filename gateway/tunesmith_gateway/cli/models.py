"""`tunesmith models`: list, create, delete."""

from argparse import Namespace

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.output import size

_COLUMNS = ("NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "BASE", "OWNER")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    models = group(commands, "models", "The models that you can use.")
    command(models, "list", listing, "List them.")
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


def create(context: Context, given: Namespace) -> None:
    """Make a model."""
    body = {"modelName": given.name, "systemTemplate": given.system, "baseModel": given.base}
    made = context.api.call("POST", "/createModel", body={k: v for k, v in body.items() if v is not None})
    context.output.record(made, f"Made {made['name']} from {made['base']}.")


def delete(context: Context, given: Namespace) -> None:
    """Remove a model."""
    removed = context.api.call("DELETE", "/deleteModel", params={"modelName": given.name})
    context.output.record(removed, f"Removed {removed['modelName']}.")

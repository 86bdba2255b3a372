"""`tunesmith keys`: list, create, revoke; for administrators."""

import time
from argparse import Namespace

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.output import when

_DAY = 86_400
_COLUMNS = ("ID", "NAME", "OWNER", "PREFIX", "SCOPES", "STATUS", "CREATED", "EXPIRES")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    keys = group(commands, "keys", "API keys: who may use this platform, and for what.")
    command(keys, "list", listing, "List the keys; their secrets are not kept.")
    make = command(keys, "create", create, "Make a key and show its secret, this once.")
    make.add_argument("name", help="what the key is for")
    make.add_argument("--owner", help="whose it is (default: yours)")
    make.add_argument("--scope", action="append", help="chat, documents, train or admin; may be given several times")
    make.add_argument("--days", type=float, help="how long it is good for (default: until it is revoked)")
    command(keys, "revoke", revoke, "Refuse a key from now on.").add_argument("id")


def listing(context: Context, _given: Namespace) -> None:
    """List the keys."""
    keys = context.api.pages("/v1/api_keys")
    rows = [
        (k["id"], k["name"], k["owner"], k["prefix"], k["scopes"], k["status"], when(k["created_at"]), _expiry(k))
        for k in keys
    ]
    context.output.table(keys, _COLUMNS, rows)


def create(context: Context, given: Namespace) -> None:
    """Make a key."""
    expires = int(time.time() + given.days * _DAY) if given.days is not None else None
    body = {"name": given.name, "owner": given.owner, "scopes": given.scope, "expires_at": expires}
    made = context.api.call("POST", "/v1/api_keys", body={k: v for k, v in body.items() if v is not None})
    context.output.record(made, made["secret"])
    context.output.hint(f"{made['id']}, owned by {made['owner']}. Keep the secret: it is not shown again.")


def revoke(context: Context, given: Namespace) -> None:
    """Revoke a key."""
    revoked = context.api.call("DELETE", f"/v1/api_keys/{given.id}")
    context.output.record(revoked, f"Revoked {revoked['id']}.")


def _expiry(key: dict[str, int | None]) -> str:
    return when(key["expires_at"]) or "never"

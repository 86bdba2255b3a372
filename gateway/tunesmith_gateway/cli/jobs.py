"""`tunesmith jobs`: list, show, create, cancel, pause, resume, follow."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.files import send
from tunesmith_gateway.cli.following import follow_job
from tunesmith_gateway.cli.output import when

Json = dict[str, Any]

_JOBS = "/v1/fine_tuning/jobs"
_COLUMNS = ("ID", "STATUS", "MODEL", "RESULT", "CREATED", "FINISHED")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    jobs = group(commands, "jobs", "Fine-tuning: from a dataset to a model.")
    command(jobs, "list", listing, "List the jobs, newest first.")
    make = command(jobs, "create", create, "Start a job.")
    make.add_argument("training_file", help="a dataset on this machine, or the id of an upload")
    make.add_argument("--validation-file", help="the same for validation")
    make.add_argument("--model", required=True, help="the model to train")
    make.add_argument("--name", help="the name that the result answers under")
    make.add_argument("--method", choices=("supervised", "dpo"), default="supervised")
    make.add_argument("--seed", type=int)
    setting = "a hyperparameter, such as n_epochs=2 or learning_rate=1e-4; may be given several times"
    make.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help=setting)
    make.add_argument("--follow", action="store_true", help="show what happens until the job ends")
    for name, run, about in (
        ("show", show, "Show a job."),
        ("cancel", cancel, "Stop a job."),
        ("pause", pause, "Set a job aside; what it has learnt so far is kept."),
        ("resume", resume, "Let a paused or failed job go on where it was."),
        ("follow", follow, "Show what happens in a job, and how far it is, until it ends."),
    ):
        command(jobs, name, run, about).add_argument("id")


def listing(context: Context, _given: Namespace) -> None:
    """List the jobs."""
    jobs = context.api.pages(_JOBS)
    rows = [
        (j["id"], j["status"], j["model"], j["fine_tuned_model"], when(j["created_at"]), when(j["finished_at"]))
        for j in jobs
    ]
    context.output.table(jobs, _COLUMNS, rows)


def show(context: Context, given: Namespace) -> None:
    """Show one job, a field a line."""
    job = context.api.call("GET", f"{_JOBS}/{given.id}")
    rows = [(name, value) for name, value in job.items() if value not in (None, [], {})]
    context.output.table(job, ("FIELD", "VALUE"), rows)


def create(context: Context, given: Namespace) -> None:
    """Start a job."""
    body: Json = {
        "model": given.model,
        "model_name": given.name,
        "seed": given.seed,
        "method": {"type": given.method, given.method: {"hyperparameters": dict(map(_setting, given.settings))}},
        "training_file": _file(context, given.training_file),
        "validation_file": _file(context, given.validation_file) if given.validation_file else None,
    }
    job = context.api.call("POST", _JOBS, json={name: value for name, value in body.items() if value is not None})
    if given.follow:
        follow_job(context, job["id"])
    else:
        context.output.record(job, job["id"])


def cancel(context: Context, given: Namespace) -> None:
    """Stop a job."""
    job = context.api.call("POST", f"{_JOBS}/{given.id}/cancel")
    context.output.record(job, f"{job['id']} is {job['status']}.")


def pause(context: Context, given: Namespace) -> None:
    """Set a job aside."""
    job = context.api.call("POST", f"{_JOBS}/{given.id}/pause")
    context.output.record(job, f"{job['id']} is {job['status']}.")


def resume(context: Context, given: Namespace) -> None:
    """Let a job go on."""
    job = context.api.call("POST", f"{_JOBS}/{given.id}/resume")
    context.output.record(job, f"{job['id']} is {job['status']}.")


def follow(context: Context, given: Namespace) -> None:
    """Follow a job."""
    follow_job(context, given.id)


def _file(context: Context, name: str) -> str:
    """Return the id of an upload; a local file is uploaded."""
    if name.startswith("file-") and not Path(name).exists():
        return name
    return str(send(context, Path(name), "fine-tune")["id"])


def _setting(text: str) -> tuple[str, bool | int | float | str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise CommandError(f"--set takes NAME=VALUE, such as n_epochs=2, not '{text}'.")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value

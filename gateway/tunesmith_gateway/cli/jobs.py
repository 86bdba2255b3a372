"""`tunesmith jobs`: list, show, preview, create, cancel, pause, resume, follow."""

from argparse import Namespace

from tunesmith_gateway.cli.commands import Commands, Context, Parser, command, group
from tunesmith_gateway.cli.following import follow_job
from tunesmith_gateway.cli.job_preview import preview
from tunesmith_gateway.cli.job_request import JobRequest, add_arguments
from tunesmith_gateway.cli.output import when

_JOBS = "/v1/fine_tuning/jobs"
_COLUMNS = ("ID", "STATUS", "MODEL", "RESULT", "CREATED", "FINISHED")


def register(commands: "Commands[Parser]") -> None:
    """Add the group."""
    jobs = group(commands, "jobs", "Fine-tuning: from a dataset to a model.")
    command(jobs, "list", listing, "List the jobs, newest first.")
    make = command(jobs, "create", create, "Start a job.")
    add_arguments(make)
    make.add_argument("--follow", action="store_true", help="show what happens until the job ends")
    look = command(jobs, "preview", preview, "Show what a job would do: prompts, tokens, steps, time and memory.")
    add_arguments(look)
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
    job = context.api.call("POST", _JOBS, body=JobRequest(context, given).body())
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

"""A job's events as they happen: a bar for a person at a terminal, a line each for a pipe, JSON lines for a program."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from tunesmith_gateway.cli.commands import Context
from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.output import clean, when

if TYPE_CHECKING:  # imported where it is used, for a terminal
    from rich.progress import Progress, TaskID

Json = dict[str, Any]

_JOBS = "/v1/fine_tuning/jobs"


def follow_job(context: Context, job_id: str) -> None:
    """Show the events of a job until it ends. Raises `CommandError` with the reason when it did not succeed."""
    display: AbstractContextManager[Progress | None] = _bar(context) if context.output.terminal else nullcontext()
    with display as bar:
        task = bar.add_task("training", total=None, visible=False) if bar else None
        for event in context.api.events("GET", f"{_JOBS}/{job_id}/events", params={"stream": "true"}):
            if bar is not None and task is not None and event["type"] == "metrics":
                _advance(bar, task, event["data"])
            elif bar is not None:
                bar.console.print(f"{when(event['created_at'])} {clean(event['message'])}", soft_wrap=True)
            else:
                context.output.event(event, f"{when(event['created_at'])}\t{event['level']}\t{event['message']}")
    job = context.api.call("GET", f"{_JOBS}/{job_id}")
    if job["status"] != "succeeded":
        reason = (job["error"] or {}).get("message")
        raise CommandError(f"The job {job_id} {job['status']}{': ' + reason if reason else '.'}")
    context.output.event(job, f"{job['fine_tuned_model']} is ready: tunesmith chat --model {job['fine_tuned_model']}")


def _bar(context: Context) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=context.output.console, transient=True)


def _advance(bar: "Progress", task: "TaskID", data: Json) -> None:
    """Move the bar to where a metrics event says that training is."""
    words = [f"step {data.get('step', '?')}/{data.get('total_steps', '?')}"]
    if (loss := data.get("train_loss")) is not None:
        words.append(f"loss {loss:.3f}")
    if (speed := data.get("tokens_per_second")) is not None:
        words.append(f"{speed:.0f} tokens/s")
    if (left := data.get("eta_seconds")) is not None:
        words.append(f"{left:.0f} s left")
    bar.update(
        task,
        description=", ".join(words),
        completed=data.get("step") or 0,
        total=data.get("total_steps"),
        visible=True,
    )

"""`tunesmith jobs preview`: what a job would do, before anything starts."""

from argparse import Namespace
from typing import Any

from tunesmith_gateway.cli.commands import Context
from tunesmith_gateway.cli.job_request import JobRequest
from tunesmith_gateway.cli.output import Output, clean, size

Json = dict[str, Any]

_ROUTE = "/v1/fine_tuning/jobs/preview"


def preview(context: Context, given: Namespace) -> None:
    """Show what the job would do; files that were uploaded for it are removed again."""
    request = JobRequest(context, given)
    try:
        shown = context.api.call("POST", _ROUTE, body=request.body())
    finally:
        request.remove_uploads()
    if context.output.as_json:
        context.output.document(shown)
        return
    for row in shown["samples"]:
        _row(context.output, row)
    context.output.table(shown, ("", ""), _summary(shown))


def _row(output: Output, row: Json) -> None:
    """Show a row as the model reads it: what is masked is dim in a terminal, and marked in a pipe."""
    cut = f", the last {row['cut_tokens']} beyond max_length" if row["cut_tokens"] else ""
    output.line(f"{row['filename']}, row {row['row']}: {row['tokens']} tokens, {row['learnt_tokens']} learnt{cut}")
    if output.terminal:
        from rich.text import Text  # noqa: PLC0415 - for a terminal alone

        pieces = ((clean(piece["text"]), "bold green" if piece["learnt"] else "dim") for piece in row["pieces"])
        output.console.print(Text.assemble(*pieces))
        return
    for piece in row["pieces"]:
        output.line(f"[{'learnt' if piece['learnt'] else 'masked'}, {piece['tokens']} tokens]")
        output.line(piece["text"])


def _summary(shown: Json) -> list[tuple[str, object]]:
    tokens, estimate = shown["tokens"], shown["estimate"]
    lines: list[tuple[str, object]] = []
    for dataset in shown["datasets"]:
        used = f"{dataset['used_rows']} of {dataset['rows']} rows, format {dataset['format']}"
        weight = f", weight {dataset['weight']:g}" if dataset["weight"] != 1 else ""
        lines.append((dataset["filename"], used + weight))
        if dataset["too_long_rows"]:
            few = ", ".join(map(str, dataset["too_long_rows"][:10]))
            lines.append(("", f"{len(dataset['too_long_rows'])} too long and {dataset['too_long_are']}: rows {few}"))
    limit = estimate["memory_limit_bytes"]
    lines += [
        ("tokens a row", f"{tokens['min']} to {tokens['max']}, median {tokens['median']:g}"),
        ("tokens an epoch", f"{tokens['total']}, {tokens['learnt']} learnt"),
        *shown["hyperparameters"].items(),
        ("base model", f"{shown['base_model']}, {estimate['parameters'] / 1e6:.1f} million parameters"),
        ("learnt parameters", f"{estimate['learnt_parameters'] / 1e6:.2f} million"),
        ("steps", shown["steps"]),
        ("time", f"about {estimate['seconds']} s of training on {estimate['device']}"),
        ("memory", f"about {size(estimate['memory_bytes'])}" + (f" of {size(limit)}" if limit else "")),
    ]
    return lines

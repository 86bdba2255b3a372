"""The metrics of a training as `results.csv`, in the shape of OpenAI's result files."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
    "train_reward_accuracy": "train_reward_accuracy",
    "train_reward_margin": "train_reward_margin",
    "learning_rate": "learning_rate",
}
"""The columns, and the names of the same figures in `metrics` events."""


def as_csv(metrics: Iterable[Mapping[str, Any]], after: Mapping[str, Any] | None) -> str:
    """Return a line for each measured step; the last one has what was measured on the evaluation rows afterwards.

    Losses are in nats a token (of pairs: in nats a pair), accuracies from 0 to 1; what was not measured is empty.
    """
    merged: dict[Any, dict[str, Any]] = {}
    for measured_step in metrics:
        merged.setdefault(measured_step.get("step"), {}).update(measured_step)
    steps = list(merged.values())
    if steps and after:
        steps[-1] |= {"valid_loss": after["loss"], "valid_mean_token_accuracy": after.get("accuracy")}
    measured = {name for step in steps for name in step}
    used = {
        column: name for column, name in COLUMNS.items() if not column.startswith("train_reward") or name in measured
    }
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(used)
    writer.writerows([step.get(name) for name in used.values()] for step in steps)
    return text.getvalue()

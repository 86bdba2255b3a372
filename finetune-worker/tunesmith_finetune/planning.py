"""What a training will be: the rows as tokens, the hyperparameters with values, and how many steps they make.

A job's first steps and the preview of a job use the same functions, so what is shown is what is done.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith_finetune import hyperparameters
from tunesmith_finetune.datasets.encode import EncodedRow, Encoder, count_tokens, encode_dataset, longest_text
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.datasets.mixture import Part, weighted
from tunesmith_finetune.hyperparameters import Chosen
from tunesmith_shared.schemas.jobs import Hyperparameters


@dataclass
class Rows:
    """The rows of a purpose (to train on, to evaluate on) as tokens; rows cut or left out by their file's name."""

    encoded: list[EncodedRow] = field(default_factory=list)
    truncated: dict[str, list[int]] = field(default_factory=dict)
    skipped: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """What rows amount to, in tokens: all that the model reads in an epoch, those it learns, and the longest text."""

    rows: int
    tokens: int
    learnt_tokens: int
    longest: int
    liked: float
    """The share of rated answers that people liked; a half where nothing is rated."""


def encode_parts(
    encoder: Encoder,
    parts: Sequence[tuple[Part, Iterable[Example]]],
    max_length: int,
    long_rows: str,
    seed: int,
) -> Rows:
    """Return the examples of several datasets as one list of tokens, each row as often as its dataset's weight says.

    Raises `BadRequest` with the rows that cannot be used.
    """
    together = Rows()
    for part, examples in parts:
        encoded = encode_dataset(encoder, examples, part.source, max_length, long_rows)
        together.encoded += weighted(encoded.rows, part.weight, seed)
        for rows, numbers in ((together.truncated, encoded.truncated), (together.skipped, encoded.skipped)):
            if numbers:
                rows[part.source.filename] = numbers
    return together


def measure(rows: Sequence[EncodedRow]) -> Size:
    """Return what `rows`, of which there is at least one, amount to."""
    tokens, learnt = (sum(counts) for counts in zip(*map(count_tokens, rows), strict=True))
    rated = [row["label"] for row in rows if "completion_ids" in row]
    liked = sum(rated) / len(rated) if rated else 0.5
    return Size(len(rows), tokens, learnt, max(map(longest_text, rows)), liked)


def choose(wanted: Hyperparameters, method: str, size: Size, context_length: int | None) -> Chosen:
    """Return a value for each hyperparameter of training on rows of this `size`. Raises `BadRequest`."""
    return hyperparameters.choose(wanted, method, size.rows, size.longest, context_length, size.liked)


def steps_an_epoch(chosen: Chosen, size: Size) -> int:
    """Return how many optimiser steps an epoch has; of packed rows, what even filling would make."""
    rows = math.ceil(size.tokens / chosen.max_length) if chosen.packing else size.rows
    return math.ceil(math.ceil(rows / chosen.batch_size) / chosen.gradient_accumulation_steps)


def training_plan(chosen: Chosen, size: Size) -> dict[str, Any]:
    """Return what the training process must know of the rows and the hyperparameters."""
    return {
        "hyperparameters": chosen.model_dump(),
        "estimated_steps": steps_an_epoch(chosen, size) * chosen.n_epochs,
        "tokens_an_epoch": size.tokens,
    }

"""What a job would be, before anything starts: prompts, tokens, what is masked or cut, steps, time and memory."""

import asyncio
import json
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_finetune import hyperparameters, planning
from tunesmith_finetune.base_models import BaseModel
from tunesmith_finetune.datasets.encode import EncodedRow, Encoder, count_tokens, encode_dataset, longest_text
from tunesmith_finetune.datasets.formats import Example, detect_format, read_examples
from tunesmith_finetune.datasets.mixture import Part, sample, weighted
from tunesmith_finetune.hyperparameters import Chosen
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.processes import run_child
from tunesmith_finetune.whole import write_json
from tunesmith_shared.schemas.jobs import JobCreate
from tunesmith_shared.schemas.previews import (
    DatasetPreview,
    JobPreview,
    PreviewedRow,
    PreviewEstimate,
    PreviewPiece,
    TokenCounts,
)

SHOWN_ROWS = 3
MOST_COUNTED = 5000
"""Rows of a file whose tokens are counted; of a larger file that many are drawn, and stand for the others."""
TOO_LONG_ARE: dict[str, Any] = {"refuse": "refused", "truncate": "truncated", "skip": "left out"}


@dataclass
class _Seen:
    """What was seen of the datasets: the rows of an epoch (a row may stand for several) and what is shown of them."""

    rows: list[EncodedRow] = field(default_factory=list)
    counted: int = 0
    datasets: list[DatasetPreview] = field(default_factory=list)
    samples: list[PreviewedRow] = field(default_factory=list)


async def build_preview(pipeline: Pipeline, owner: str, body: JobCreate, base: BaseModel) -> JobPreview:
    """Return what the job that `body` asks for would be. Raises what creating it would raise, but for rows that are
    too long, which are shown.
    """
    wanted = hyperparameters.requested(body)
    base = await pipeline.bases.fetched(base)
    base_folder = await pipeline.bases.prepare(base)
    parts = (await pipeline.datasets_of(body, owner))["train"]
    limit = hyperparameters.max_length(wanted, base.context_length)
    seen = await asyncio.to_thread(_look, Encoder(base_folder), parts, body, limit, hyperparameters.long_rows(wanted))
    size = planning.measure(seen.rows)
    chosen = planning.choose(wanted, body.method.type, size, base.context_length)
    steps = planning.steps_an_epoch(chosen, size) * chosen.n_epochs
    counts = [count_tokens(row)[0] for row in seen.rows]
    return JobPreview(
        model=body.model,
        base_model=base.name,
        method=body.method.type,
        datasets=seen.datasets,
        rows=size.rows,
        tokens=TokenCounts(
            min=min(counts),
            median=statistics.median(counts),
            max=max(counts),
            total=size.tokens,
            learnt=size.learnt_tokens,
            counted_rows=seen.counted,
        ),
        samples=seen.samples,
        hyperparameters={name: value for name, value in chosen.model_dump().items() if value is not None},
        steps=steps,
        estimate=await _estimate(pipeline, base_folder, body.method.type, chosen, steps, seen.rows),
    )


def _look(encoder: Encoder, parts: list[Part], body: JobCreate, limit: int, long_rows: str) -> _Seen:
    seen, method, seed = _Seen(), body.method.type, body.seed or 0
    for part in parts:
        rows, drawn = _draw(part, method, seed)
        used = min(rows, part.max_rows or rows)
        how = "skip" if long_rows == "refuse" else long_rows
        encoded = encode_dataset(encoder, drawn, part.source, limit, how)
        seen.rows += weighted(encoded.rows, part.weight * used / len(drawn), seed)
        seen.counted += len(drawn)
        seen.samples += [_show(encoder, part, example, limit) for example in drawn[:SHOWN_ROWS]]
        seen.datasets.append(
            DatasetPreview(
                file=part.source.path.name,
                filename=part.source.filename,
                format=detect_format(part.source, method, part.format).name,
                rows=rows,
                used_rows=used,
                weight=part.weight,
                too_long_rows=encoded.truncated + encoded.skipped,
                too_long_are=TOO_LONG_ARE[long_rows],
            )
        )
    return seen


def _draw(part: Part, method: str, seed: int) -> tuple[int, list[Example]]:
    """Return how many rows a dataset has, and those that are looked at."""
    count = 0

    def counted() -> Any:
        nonlocal count
        for example in read_examples(part.source, method, part.format):
            count += 1
            yield example

    drawn = sample(counted(), min(part.max_rows or MOST_COUNTED, MOST_COUNTED), seed)
    return count, drawn


def _show(encoder: Encoder, part: Part, example: Example, limit: int) -> PreviewedRow:
    pieces = [
        PreviewPiece(text=text, learnt=learnt, tokens=len(encoder.tokens(text)))
        for text, learnt in encoder.pieces(example)
    ]
    row = encoder.encode(example)
    tokens, learnt_tokens = count_tokens(row)
    return PreviewedRow(
        filename=part.source.filename,
        row=example["row"],
        pieces=pieces,
        tokens=tokens,
        learnt_tokens=learnt_tokens,
        cut_tokens=max(0, longest_text(row) - limit),
    )


async def _estimate(
    pipeline: Pipeline, base_folder: Path, method: str, chosen: Chosen, steps: int, rows: list[EncodedRow]
) -> PreviewEstimate:
    """Ask a child process, which may import torch. Raises `ChildFailed`."""
    mean, most = padded_tokens(rows, method, chosen)
    size = planning.measure(rows)
    request = {
        "base_folder": str(base_folder),
        "method": method,
        "hyperparameters": chosen.model_dump(),
        "steps": steps,
        "tokens_a_step": mean * chosen.gradient_accumulation_steps,
        "most_tokens": most,
        "learnt_share": size.learnt_tokens / size.tokens,
        "threads": pipeline.settings.training_threads,
    }
    answers: list[str] = []

    async def hear(line: str) -> None:
        answers.append(line)

    with tempfile.TemporaryDirectory(prefix="tunesmith-preview-") as scratch:
        asked = Path(scratch) / "request.json"
        write_json(asked, request)
        command = [sys.executable, "-m", "tunesmith_finetune.estimate", str(asked)]
        await run_child(
            command, title="The estimate", log=Path(scratch) / "log", limits=pipeline.tool_limits, on_line=hear
        )
    limit = pipeline.training_limits.memory_bytes
    return PreviewEstimate(memory_limit_bytes=limit, **json.loads(answers[-1]))


def padded_tokens(rows: list[EncodedRow], method: str, chosen: Chosen) -> tuple[int, int]:
    """Return the tokens of a batch, padding included: on average, and of the largest one.

    Supervised rows are batched by length, others at random; a pair is two texts of the longer one's length.
    """
    texts = 2 if method in ("dpo", "orpo") else 1
    if chosen.packing:
        return chosen.batch_size * chosen.max_length, chosen.batch_size * chosen.max_length
    lengths = sorted(map(longest_text, rows))
    most = texts * lengths[-1] * min(chosen.batch_size, len(rows))
    if method != "supervised":
        random.Random(0).shuffle(lengths)  # noqa: S311 - any order does
    starts = range(0, len(lengths), chosen.batch_size)
    batches = [texts * max(batch) * len(batch) for batch in (lengths[at : at + chosen.batch_size] for at in starts)]
    return round(statistics.fmean(batches)), most

"""The first two steps: check the datasets, then make the base model ready and turn the rows into tokens."""

import asyncio
import json
import math
from pathlib import Path

from tunesmith_finetune import hyperparameters
from tunesmith_finetune.datasets.encode import EncodedRow, Encoder, count_tokens, encode_dataset, longest_text
from tunesmith_finetune.datasets.formats import Example, read_examples
from tunesmith_finetune.datasets.source import Source
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_shared.schemas.jobs import JobCreate
from tunesmith_shared.tables import Job


async def validate(pipeline: Pipeline, job: Job) -> None:
    """Read both datasets and keep them as chats. Raises `BadRequest` that names the rows that cannot be used."""
    workspace = pipeline.workspace(job)
    async with act(pipeline, job, "validate", "checking the datasets", "checked the datasets") as told:
        counts = {}
        for part, source in (await pipeline.sources(job)).items():
            counts[part] = await asyncio.to_thread(_keep_examples, source, job.method["type"], workspace.examples(part))
        told.detail = ", ".join(f"{count} rows to {_PURPOSES[part]}" for part, count in counts.items())
        told.data = {f"{part}_rows": count for part, count in counts.items()}


_PURPOSES = {"train": "train on", "valid": "evaluate on"}


def _keep_examples(source: Source, method: str, output: Path) -> int:
    examples = list(read_examples(source, method))
    write_json_lines(output, examples)
    return len(examples)


async def prepare(pipeline: Pipeline, job: Job) -> None:
    """Make the base model ready, make tokens of the rows, and settle the hyperparameters."""
    base = await pipeline.base_model(job)
    async with act(pipeline, job, "base", f"preparing the base model {base.name}", f"prepared {base.name}"):
        base_folder = await pipeline.bases.prepare(base)
    wanted = hyperparameters.requested(JobCreate.model_validate(job.request["body"]))
    longest_allowed = hyperparameters.max_length(wanted, base.context_length)
    workspace = pipeline.workspace(job)
    rows: dict[str, list[EncodedRow]] = {}
    encoder = await asyncio.to_thread(Encoder, base_folder)
    for part, source in (await pipeline.sources(job)).items():
        examples = await asyncio.to_thread(_read_examples, workspace.examples(part))
        rows[part] = await asyncio.to_thread(encode_dataset, encoder, examples, source, longest_allowed)
        await asyncio.to_thread(write_json_lines, workspace.tokens(part), rows[part])
    train = rows["train"]
    longest = max(map(longest_text, train))
    method = job.method["type"]
    chosen = hyperparameters.choose(wanted, method, len(train), longest, base.context_length)
    tokens, learnt = (sum(counts) for counts in zip(*map(count_tokens, train), strict=True))
    steps_an_epoch = math.ceil(len(train) / (chosen.batch_size * chosen.gradient_accumulation_steps))
    write_json(
        workspace.plan,
        {
            "method": method,
            "base_model": base.name,
            "base_folder": str(base_folder),
            "hyperparameters": chosen.model_dump(),
            "seed": job.seed,
            "threads": pipeline.settings.training_threads,
            "estimated_steps": steps_an_epoch * chosen.n_epochs,
            "tokens_an_epoch": tokens,
            "first_prompt": _first_prompt(_read_examples(workspace.examples("train"))),
        },
    )
    await pipeline.jobs.change(job.id, method=method_with(method, chosen.model_dump()))
    await pipeline.jobs.tell(
        job.id,
        "plan",
        f"{len(train)} rows, {tokens} tokens, {learnt} of them learnt; "
        f"{chosen.n_epochs} epochs of {steps_an_epoch} steps",
        data={"hyperparameters": chosen.model_dump(), "longest_row_tokens": longest, "learnt_tokens": learnt},
    )


def method_with(method: str, chosen: dict[str, object]) -> dict[str, object]:
    """Return the job's `method`, in OpenAI's shape, with the hyperparameters that were chosen and are its own."""
    own = {name: value for name, value in chosen.items() if value is not None}
    return {"type": method, method: {"hyperparameters": own}}


def _read_examples(path: Path) -> list[Example]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _first_prompt(examples: list[Example]) -> str:
    """Return what a person first says in the dataset: a prompt that the finished model is asked as a check."""
    for message in examples[0]["messages"] or []:
        if message["role"] == "user":
            return message["content"]
    return "Hello!"

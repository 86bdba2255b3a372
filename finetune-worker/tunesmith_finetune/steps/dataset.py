"""The first two steps: check the datasets, then make the base model ready and turn the rows into tokens."""

import asyncio
import json
from pathlib import Path

from tunesmith_finetune import hyperparameters, planning
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example, read_examples
from tunesmith_finetune.datasets.mixture import Part, sample
from tunesmith_finetune.datasets.problems import name_rows
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.steps.conversion import ensure_base_gguf
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_shared.schemas.jobs import Hyperparameters, JobCreate
from tunesmith_shared.tables import Job

_PURPOSES = {"train": "train on", "valid": "evaluate on"}


async def validate(pipeline: Pipeline, job: Job) -> None:
    """Read the datasets and keep them as chats. Raises `BadRequest` that names the rows that cannot be used."""
    workspace = pipeline.workspace(job)
    async with act(pipeline, job, "validate", "checking the datasets", "checked the datasets") as told:
        counts = dict.fromkeys(_PURPOSES, 0)
        for purpose, parts in (await pipeline.datasets(job)).items():
            for index, part in enumerate(parts):
                output = workspace.examples(purpose, index)
                counts[purpose] += await asyncio.to_thread(_keep_examples, part, job.method["type"], job.seed, output)
        counts = {purpose: count for purpose, count in counts.items() if count}
        told.detail = ", ".join(f"{count} rows to {_PURPOSES[purpose]}" for purpose, count in counts.items())
        told.data = {f"{purpose}_rows": count for purpose, count in counts.items()}


def _keep_examples(part: Part, method: str, seed: int, output: Path) -> int:
    examples = sample(read_examples(part.source, method, part.format), part.max_rows, seed)
    write_json_lines(output, examples)
    return len(examples)


async def prepare(pipeline: Pipeline, job: Job) -> None:
    """Make the base model ready, make tokens of the rows, and settle the hyperparameters."""
    base = await pipeline.base_model(job)
    async with act(pipeline, job, "base", f"preparing the base model {base.name}", f"prepared {base.name}"):
        base = await pipeline.bases.fetched(base)
        base_folder = await pipeline.bases.prepare(base)
    if not base.package:  # what cannot be exported is found before the training, not after it
        await ensure_base_gguf(pipeline, job, base)
    wanted = hyperparameters.requested(JobCreate.model_validate(job.request["body"]))
    workspace = pipeline.workspace(job)
    rows = await _encode(pipeline, job, await asyncio.to_thread(Encoder, base_folder), wanted, base.context_length)
    size = planning.measure(rows["train"].encoded)
    method = job.method["type"]
    chosen = planning.choose(wanted, method, size, base.context_length)
    write_json(
        workspace.plan,
        {
            "method": method,
            "base_model": base.reference,
            "base_folder": str(base_folder),
            "seed": job.seed,
            "threads": pipeline.settings.training_threads,
            "run_name": job.model_name,
            "report_to": pipeline.settings.tracker_names,
            "first_prompt": _first_prompt(_read_examples(workspace.examples("train", 0))),
            **planning.training_plan(chosen, size),
        },
    )
    await pipeline.jobs.change(job.id, method=method_with(method, chosen.model_dump()))
    await pipeline.events.tell(
        job.id,
        "plan",
        f"{size.rows} rows, {size.tokens} tokens, {size.learnt_tokens} of them learnt; "
        f"{chosen.n_epochs} epochs of {planning.steps_an_epoch(chosen, size)} steps",
        data={
            "hyperparameters": chosen.model_dump(),
            "longest_row_tokens": size.longest,
            "learnt_tokens": size.learnt_tokens,
        },
    )


async def _encode(
    pipeline: Pipeline, job: Job, encoder: Encoder, wanted: Hyperparameters, context_length: int | None
) -> dict[str, planning.Rows]:
    """Make tokens of all rows and keep them; tell which were cut or left out. Raises `BadRequest`."""
    workspace = pipeline.workspace(job)
    longest = hyperparameters.max_length(wanted, context_length)
    long_rows = hyperparameters.long_rows(wanted)
    found: dict[str, planning.Rows] = {}
    for purpose, parts in (await pipeline.datasets(job)).items():
        read = [(part, _read_examples(workspace.examples(purpose, index))) for index, part in enumerate(parts)]
        rows = await asyncio.to_thread(planning.encode_parts, encoder, read, longest, long_rows, job.seed)
        await asyncio.to_thread(write_json_lines, workspace.tokens(purpose), rows.encoded)
        for what, named in (("cut to", rows.truncated), ("left out for", rows.skipped)):
            for filename, numbers in named.items():
                sentence = f"'{filename}': {name_rows(numbers)} {what} max_length, {longest} tokens"
                await pipeline.events.tell(job.id, f"{purpose}-{what}-{filename}", sentence, level="warn")
        found[purpose] = rows
    return found


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

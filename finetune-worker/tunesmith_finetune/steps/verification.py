"""The step before a model gets its name: measure it, hold training and serving against each other, let it answer."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith_finetune import parity
from tunesmith_finetune.artifact import Artifact
from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.export import ModelFile, read_adapter_file, read_model_file
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.proof import Check, as_data, judge, require_proof
from tunesmith_finetune.publish import CheckFailed
from tunesmith_finetune.steps.conversion import await_tools
from tunesmith_finetune.steps.measurement import measure, measured_in
from tunesmith_finetune.steps.products import Product, examples_of, products_of
from tunesmith_finetune.whole import write_json
from tunesmith_finetune.workspace import read_json
from tunesmith_shared.tables import Job

SAMPLES = 3
"""How many prompts base and tuned model answer side by side."""


async def verify(pipeline: Pipeline, job: Job) -> None:
    """Look at what the job made. Raises `NotProven`, `CheckFailed`, or `ExportFailed`: it gets no name then."""
    workspace = pipeline.workspace(job)
    plan = read_json(workspace.plan)
    if not workspace.check.exists():
        losses = await measure(pipeline, job)
        doing, done = "checking that it loads and answers", "it loads and answers"
        async with act(pipeline, job, "verify", doing, done) as told:
            check = await _look(pipeline, job, plan, losses)
            write_json(workspace.check, check)
            told.detail = f"{check['file']['gguf_type']}, {check['answer']['tokens_per_second']:g} tokens/s"
            told.data = {"file": check["file"], "answer": check["answer"]}
    workspace.merged_gguf.unlink(missing_ok=True)
    checks = [Check(**found) for found in read_json(workspace.check)["checks"]]
    for number, found in enumerate(checks):
        sentence = found.detail if found.passed is not None else f"not checked: {found.detail}"
        await pipeline.events.tell(job.id, f"check-{number}", sentence, level="info" if found.passed else "warn")
    require_proof(checks, plan["hyperparameters"]["promote"])


async def _look(pipeline: Pipeline, job: Job, plan: dict[str, Any], losses: dict[str, Any]) -> dict[str, Any]:
    """Read every file back, and serve each under a candidate name; gives all that was found."""
    workspace = pipeline.workspace(job)
    products = await products_of(pipeline, job)
    files = {product.label: asdict(await asyncio.to_thread(_file, product)) for product in products}
    examples = examples_of(workspace, "valid") or examples_of(workspace, "train")
    questions = [example for example in examples if parity.first_turn(example)][:SAMPLES]
    chats = [parity.first_turn(example) for example in questions] or [
        [Message(role="user", content=plan["first_prompt"])]
    ]
    compared: dict[str, Any] = {}
    answers: list[dict[str, Any]] = []
    for product in products:
        async with pipeline.publisher.candidate(job.id, product.artifact) as candidate:
            if candidate.upload_reason:
                sentence = f"{candidate.upload_reason}: the model is uploaded to the server instead"
                await pipeline.events.tell(job.id, "upload", sentence, level="warn")
            asked = chats if product is products[0] else chats[:1]
            given = [asdict(await pipeline.publisher.ask(candidate.name, chat)) for chat in asked]
            if not any(answer["text"] for answer in given):
                raise CheckFailed(f"The finished model ({product.label}) loads and says nothing.")
            if product is products[0]:
                answers = given
                compared = await _compare(pipeline, job, product.artifact, candidate.name, examples)
    base_answers = await _base_answers(pipeline, job, chats)
    expected_answers = [parity.first_answer(example) for example in questions] or [None]
    checks = judge(losses, [product.label for product in products], compared, measured_in(workspace))
    return {
        "file": files[products[0].label],
        "files": files,
        "names": {product.label: product.names for product in products},
        "answer": answers[0],
        "samples": [
            {**answer, "base": base, "expected": expected}
            for answer, base, expected in zip(answers, base_answers, expected_answers, strict=True)
        ],
        "losses": losses,
        "parity": compared,
        "checks": as_data(checks),
    }


def _file(product: Product) -> ModelFile:
    if product.artifact.adapter is not None:
        return read_adapter_file(product.artifact.adapter)
    return read_model_file(product.artifact.gguf, product.label)


async def _compare(
    pipeline: Pipeline, job: Job, artifact: Artifact, name: str, examples: list[Example]
) -> dict[str, Any]:
    """Hold the job's own prompts, as training had them, against what the candidate `name` reads."""
    workspace = pipeline.workspace(job)
    tools = await await_tools(pipeline, job)
    encoder = await asyncio.to_thread(Encoder, Path(read_json(workspace.plan)["base_folder"]))
    scratch = workspace.folder / "prompt.txt"

    async def render(messages: Any) -> str | None:
        return await pipeline.publisher.rendered(name, messages)

    async def tokenise(text: str) -> list[int]:
        return await parity.served_tokens(tools, artifact.gguf, text, scratch, workspace.log, pipeline.tool_limits)

    system = [Message(role="system", content=artifact.system)] if artifact.system else []
    as_served = [_with_system(example, system) for example in examples[: 4 * parity.PROMPTS]]
    return await parity.compare(encoder, as_served, render, tokenise)


def _with_system(example: Example, system: list[Message]) -> Example:
    """Return `example` with the system prompt that serving puts before a chat without one."""
    messages = example["messages"]
    if not messages or messages[0]["role"] == "system":
        return example
    return {**example, "messages": [*system, *messages]}


async def _base_answers(pipeline: Pipeline, job: Job, chats: list[list[Message]]) -> list[str | None]:
    """Return what the base model answers, if it is served, or is there as a file that can be."""
    base, publisher = await pipeline.base_model(job), pipeline.publisher
    name = await publisher.served(base.served_as)
    if name is not None:
        return [(await publisher.ask(name, chat)).text for chat in chats]
    file = pipeline.bases.f16_gguf(base)
    if not file.exists():
        return [None] * len(chats)
    async with publisher.candidate(f"{job.id}-base", Artifact(file, {})) as candidate:
        return [(await publisher.ask(candidate.name, chat)).text for chat in chats]

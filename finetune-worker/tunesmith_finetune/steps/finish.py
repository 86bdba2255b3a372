"""The last steps: give the model its names, and report."""

import asyncio
import sys
from typing import Any

from tunesmith_finetune.model_card import as_model_card
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.processes import ChildFailed, run_child
from tunesmith_finetune.result_files import store_report
from tunesmith_finetune.steps.products import products_of
from tunesmith_finetune.whole import write_json, write_text
from tunesmith_shared.errors import Conflict
from tunesmith_shared.names import ModelName
from tunesmith_shared.tables import Job


async def publish(pipeline: Pipeline, job: Job) -> None:
    """Give the model its names, in the store and in the table of owned models. Raises `Conflict`, `CheckFailed`."""
    base = await pipeline.base_model(job)
    products = await products_of(pipeline, job)
    names = ", ".join(name for product in products for name in product.names)
    async with act(pipeline, job, "publish", f"registering as {names}", f"registered as {names}") as told:
        for product in products:
            for name in product.names:
                if await pipeline.models.name_taken(name, job.owner):
                    raise Conflict(f"The name '{name}' was taken meanwhile; choose another.", param="model_name")
        digests = {}
        for product in reversed(products):  # the job's own name last: when it is there, all are
            for name in reversed(product.names):
                if not await pipeline.models.own_model(name, job.owner, base.name, job.id):
                    raise Conflict(f"The name '{name}' was taken meanwhile; choose another.", param="model_name")
                digests[name] = await pipeline.publisher.publish(ModelName.parse(name), product.artifact)
        write_json(pipeline.workspace(job).published, digests)
        told.data = {"digest": digests[job.model_name], "digests": digests}
    await pipeline.jobs.change(job.id, fine_tuned_model=job.model_name)


async def report(pipeline: Pipeline, job: Job) -> None:
    """Store the report as result files, tell the losses in a closing event, and let go of what is not needed more."""
    workspace = pipeline.workspace(job)
    summary = await store_report(pipeline, job.id)
    await _push(pipeline, job, summary)
    await asyncio.to_thread(workspace.remove_intermediates)
    losses = summary["losses"]
    sentence = f"New fine-tuned model created: {job.model_name}"
    if losses["improvement"] is not None:
        sentence += (
            f". Loss on rows never trained on: {losses['base_eval_loss']:.3f} before, {losses['eval_loss']:.3f} after "
            f"({losses['improvement']:.0%} lower)"
        )
    await pipeline.events.tell(job.id, "report", sentence, data={**losses, "model": job.model_name})


async def _push(pipeline: Pipeline, job: Job, summary: dict[str, Any]) -> None:
    """Send the model to the hub if the request names a repository; that it cannot be sent is told, and no more."""
    push, workspace = job.request["body"].get("push"), pipeline.workspace(job)
    if push is None:
        return
    addresses: list[str] = []

    async def hear(line: str) -> None:
        addresses.append(line)

    write_text(workspace.folder / "card.md", [as_model_card(summary)])
    command = [sys.executable, "-m", "tunesmith_finetune.push", str(workspace.folder)]
    command += [push["repository"], push["content"], push["visibility"]]
    doing, limits = f"sending the {push['content']} to {push['repository']}", pipeline.tool_limits
    try:
        async with act(pipeline, job, "push", doing, f"sent to {push['repository']}") as told:
            await run_child(command, title="Sending the model", log=workspace.log, limits=limits, on_line=hear)
            told.detail = addresses[-1]
    except ChildFailed as error:
        sentence = f"The model is registered and was not sent to {push['repository']}: {error.message}"
        await pipeline.events.tell(job.id, "push-failed", sentence, level="warn")

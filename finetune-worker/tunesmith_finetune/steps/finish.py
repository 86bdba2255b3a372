"""The last steps: check the finished file, give it its name, and report."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict

from tunesmith_finetune.export import read_model_file
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.report import as_json, as_markdown, build_report
from tunesmith_finetune.whole import write_json
from tunesmith_finetune.workspace import read_json
from tunesmith_shared.clock import now
from tunesmith_shared.errors import Conflict
from tunesmith_shared.names import ModelName
from tunesmith_shared.tables import File, Job


async def verify(pipeline: Pipeline, job: Job) -> None:
    """Check that the file is of the type it should be, loads, and answers. Raises `CheckFailed`, `ExportFailed`."""
    workspace = pipeline.workspace(job)
    if workspace.check.exists():
        return
    plan = read_json(workspace.plan)
    doing, done = "checking that it loads and answers", "it loads and answers"
    async with act(pipeline, job, "verify", doing, done) as told:
        file = read_model_file(workspace.model_gguf, plan["hyperparameters"]["gguf_type"])
        answer = await pipeline.publisher.try_candidate(job.id, workspace.model_gguf, plan["first_prompt"])
        check = {"file": asdict(file), "answer": asdict(answer)}
        write_json(workspace.check, check)
        told.detail, told.data = f"{file.gguf_type}, {answer.tokens_per_second:g} tokens/s", check


async def publish(pipeline: Pipeline, job: Job) -> None:
    """Give the model its name, in the store and in the table of owned models. Raises `Conflict`, `CheckFailed`."""
    workspace = pipeline.workspace(job)
    base = await pipeline.base_model(job)
    async with act(
        pipeline, job, "publish", f"registering as {job.model_name}", f"registered as {job.model_name}"
    ) as told:
        if not await pipeline.jobs.own_model(job.model_name, job.owner, base.name, job.id):
            raise Conflict(f"The name '{job.model_name}' was taken meanwhile; choose another.", param="model_name")
        digest = await pipeline.publisher.publish(ModelName.parse(job.model_name), workspace.model_gguf)
        told.data = {"digest": digest}
    await pipeline.jobs.change(job.id, fine_tuned_model=job.model_name)


async def report(pipeline: Pipeline, job: Job) -> None:
    """Store the report as result files, and tell the losses in a closing event."""
    workspace = pipeline.workspace(job)
    job = await pipeline.jobs.get(job.id)
    summary = build_report(job, workspace)
    if not job.result_files:
        files = []
        for name, content in (("report.json", as_json(summary)), ("report.md", as_markdown(summary))):
            stored = await pipeline.files.save(_once(content.encode()))
            files.append(
                File(
                    id=stored.id,
                    owner=job.owner,
                    filename=f"{job.id}-{name}",
                    purpose="fine-tune-results",
                    bytes=stored.bytes,
                    sha256=stored.sha256,
                    created_at=now(),
                    expires_at=None,
                )
            )
        await pipeline.jobs.add_result_files(job.id, files)
    await asyncio.to_thread(shutil.rmtree, workspace.folder / "checkpoints", ignore_errors=True)
    losses = summary["losses"]
    sentence = f"New fine-tuned model created: {job.model_name}"
    if losses["improvement"] is not None:
        sentence += (
            f". Loss on rows never trained on: {losses['base_eval_loss']:.3f} before, {losses['eval_loss']:.3f} after "
            f"({losses['improvement']:.0%} lower)"
        )
    await pipeline.jobs.tell(job.id, "report", sentence, data={**losses, "model": job.model_name})


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content

"""The last steps: check the finished file, give it its name, and report."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from tunesmith_finetune.artifact import Artifact
from tunesmith_finetune.base_models import packaged_gguf
from tunesmith_finetune.export import read_adapter_file, read_model_file
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.processes import ChildFailed, run_child
from tunesmith_finetune.report import as_json, as_markdown, build_report
from tunesmith_finetune.results import as_csv
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
    await _measure(pipeline, job, plan)
    doing, done = "checking that it loads and answers", "it loads and answers"
    async with act(pipeline, job, "verify", doing, done) as told:
        artifact = await _artifact(pipeline, job)
        if artifact.adapter is None:
            file = read_model_file(artifact.gguf, plan["hyperparameters"]["gguf_type"])
        else:
            file = read_adapter_file(artifact.adapter)
        answer = await pipeline.publisher.try_candidate(job.id, artifact, plan["first_prompt"])
        if answer.upload_reason:
            sentence = f"{answer.upload_reason}: the model is uploaded to the server instead"
            await pipeline.jobs.tell(job.id, "upload", sentence, level="warn")
        check = {"file": asdict(file), "answer": asdict(answer)}
        write_json(workspace.check, check)
        told.detail, told.data = f"{file.gguf_type}, {answer.tokens_per_second:g} tokens/s", check


async def _measure(pipeline: Pipeline, job: Job, plan: dict[str, Any]) -> None:
    """Measure the finished file's loss on the evaluation rows; a job does not fail because that cannot be done.

    Pairs are left out, since their loss needs the reference too; so is an adapter, which was measured after training.
    """
    workspace = pipeline.workspace(job)
    rows = workspace.tokens("valid")
    wanted = plan["method"] == "supervised" and plan["hyperparameters"]["merge"]
    if not wanted or not rows.exists() or workspace.quantised.exists():
        return
    doing, done = "measuring the quantised model on the evaluation rows", "measured the quantised model"
    command = [sys.executable, "-m", "tunesmith_finetune.measure", str(workspace.folder), str(workspace.model_gguf)]
    try:
        async with act(pipeline, job, "measure", doing, done) as told:
            await run_child(command, title="The measurement", log=workspace.log, limits=pipeline.training_limits)
            told.data = read_json(workspace.quantised)
            told.detail = f"loss {told.data['loss']:.3f}"
    except ChildFailed as error:
        sentence = f"the quantised model's loss is not measured: {error.message}"
        await pipeline.jobs.tell(job.id, "measure-failed", sentence, level="warn")


async def _artifact(pipeline: Pipeline, job: Job) -> Artifact:
    """Return what the job made; it serves with the base's options, except for those that the job names."""
    workspace, base = pipeline.workspace(job), await pipeline.base_model(job)
    inherited = await pipeline.publisher.parameters_of([job.model, *base.served_as])
    parameters = {**inherited, **(job.request["body"].get("parameters") or {})}
    if read_json(workspace.plan)["hyperparameters"]["merge"]:
        return Artifact(workspace.model_gguf, parameters)
    return Artifact(packaged_gguf(base), parameters, workspace.adapter_gguf, (base.served_as or (base.name,))[0])


async def publish(pipeline: Pipeline, job: Job) -> None:
    """Give the model its name, in the store and in the table of owned models. Raises `Conflict`, `CheckFailed`."""
    base = await pipeline.base_model(job)
    async with act(
        pipeline, job, "publish", f"registering as {job.model_name}", f"registered as {job.model_name}"
    ) as told:
        if not await pipeline.jobs.own_model(job.model_name, job.owner, base.name, job.id):
            raise Conflict(f"The name '{job.model_name}' was taken meanwhile; choose another.", param="model_name")
        digest = await pipeline.publisher.publish(ModelName.parse(job.model_name), await _artifact(pipeline, job))
        told.data = {"digest": digest}
    await pipeline.jobs.change(job.id, fine_tuned_model=job.model_name)


async def report(pipeline: Pipeline, job: Job) -> None:
    """Store the report as result files, and tell the losses in a closing event."""
    workspace = pipeline.workspace(job)
    job = await pipeline.jobs.get(job.id)
    summary = build_report(job, workspace)
    if not job.result_files:
        files = []
        steps = [event.data for event in await pipeline.jobs.events_since(job.id, None) if event.type == "metrics"]
        for name, content in (
            ("report.json", as_json(summary)),
            ("report.md", as_markdown(summary)),
            ("results.csv", as_csv(steps, read_json(workspace.training)["after"])),
        ):
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

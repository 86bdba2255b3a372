"""From adapter to quantised file: convert, merge, quantise."""

import asyncio
from pathlib import Path

from tunesmith_finetune.base_models import BaseModel
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.hyperparameters import gguf_types
from tunesmith_finetune.imatrix import compute_imatrix
from tunesmith_finetune.llama_cpp import LlamaCpp
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.workspace import Workspace, read_json
from tunesmith_shared.tables import Job

PROGRESS_SECONDS = 10.0


async def convert(pipeline: Pipeline, job: Job) -> None:
    """Write the adapter as GGUF, after llama.cpp's tools are there. Where all weights were learnt there is none."""
    workspace = pipeline.workspace(job)
    tools = await await_tools(pipeline, job)
    if workspace.adapter_gguf.exists() or _all_weights(workspace):
        return
    base_folder = Path(read_json(workspace.plan)["base_folder"])
    async with act(pipeline, job, "convert", "converting adapter to GGUF", "converted adapter to GGUF") as told:
        await _exporter(pipeline, job, tools).adapter_to_gguf(workspace.adapter, base_folder, workspace.adapter_gguf)
        told.detail, told.data = _size(workspace.adapter_gguf)


async def merge(pipeline: Pipeline, job: Job) -> None:
    """Merge the adapter into the base's half-precision GGUF, which is made once for all jobs.

    An adapter that stays by itself needs that file only where the base came without one to serve it on.
    """
    workspace = pipeline.workspace(job)
    if workspace.merged_gguf.exists():
        return
    base = await pipeline.base_model(job)
    if not workspace.is_merged:
        if not base.package:
            await ensure_base_gguf(pipeline, job, base)
        return
    exporter = _exporter(pipeline, job, await await_tools(pipeline, job))
    if _all_weights(workspace):
        async with act(pipeline, job, "merge", "converting the model to GGUF", "converted the model to GGUF") as told:
            await exporter.base_to_f16(workspace.adapter, workspace.merged_gguf)
            told.detail, told.data = _size(workspace.merged_gguf)
        return
    base_gguf = await ensure_base_gguf(pipeline, job, base)
    async with act(pipeline, job, "merge", "merging adapter into the base", "merged adapter into the base") as told:
        await exporter.merge(base_gguf, workspace.adapter_gguf, workspace.merged_gguf)
        told.detail, told.data = _size(workspace.merged_gguf)


async def ensure_base_gguf(pipeline: Pipeline, job: Job, base: BaseModel) -> Path:
    """Return the half-precision GGUF of the prepared `base`, which is made once for all jobs."""
    base_gguf = pipeline.bases.f16_gguf(base)
    exporter = _exporter(pipeline, job, await await_tools(pipeline, job))
    async with pipeline.bases.lock(base_gguf):
        if not base_gguf.exists():
            async with act(pipeline, job, "base-gguf", "converting the base to GGUF", "converted the base to GGUF"):
                await exporter.base_to_f16(pipeline.bases.folder(base), base_gguf)
    return base_gguf


async def quantise(pipeline: Pipeline, job: Job) -> None:
    """Write the merged model in every type that the job asks for."""
    workspace = pipeline.workspace(job)
    if not workspace.is_merged:
        return
    chosen = read_json(workspace.plan)["hyperparameters"]
    exporter = _exporter(pipeline, job, await await_tools(pipeline, job))
    if chosen["imatrix"] and not workspace.imatrix.exists():
        doing, done = "computing the importance matrix", "computed the importance matrix"
        async with act(pipeline, job, "imatrix", doing, done) as told:
            tokens = await compute_imatrix(exporter, workspace)
            told.detail = f"from {tokens} tokens of the training data"
    matrix = workspace.imatrix if chosen["imatrix"] else None
    for gguf_type in gguf_types(chosen["gguf_type"]):
        output = workspace.model_gguf(gguf_type)
        if output.exists():
            continue
        doing, done = f"quantising to {gguf_type}", f"quantised to {gguf_type}"
        async with act(pipeline, job, f"quantise-{gguf_type}", doing, done) as told:
            await exporter.quantise(workspace.merged_gguf, output, gguf_type, matrix)
            told.detail, told.data = _size(output)


def _all_weights(workspace: Workspace) -> bool:
    full: bool = read_json(workspace.plan)["hyperparameters"]["tuning"] == "full"
    return full


async def await_tools(pipeline: Pipeline, job: Job, progress_seconds: float = PROGRESS_SECONDS) -> LlamaCpp:
    """Return llama.cpp's tools; while they are being built, tell so and how far. Raises `ToolsMissing`."""
    toolbox = pipeline.toolbox
    if toolbox.ready:
        return await toolbox.get()
    async with act(pipeline, job, "tools", "building llama.cpp tools", "llama.cpp tools are ready"):
        waiting = asyncio.create_task(toolbox.get())
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=progress_seconds)
                await pipeline.events.tell(job.id, f"tools-{toolbox.state}", toolbox.state)
        finally:
            waiting.cancel()
        return waiting.result()


def _exporter(pipeline: Pipeline, job: Job, tools: LlamaCpp) -> Exporter:
    return Exporter(tools, pipeline.tool_limits, pipeline.workspace(job).log)


def _size(path: Path) -> tuple[str, dict[str, int]]:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB", {"bytes": size}

"""The losses of base, adapter and finished files on the same rows.

Base and adapter were measured by the training process, which had them loaded. Where that trained on a quantised base
they are measured again, on the base as it is: what the finished files are made from.
"""

import sys
from typing import Any

from tunesmith_finetune import measures
from tunesmith_finetune.hyperparameters import gguf_types
from tunesmith_finetune.measures import ADAPTER, BASE, MERGED, Figures
from tunesmith_finetune.pipeline import Pipeline, act
from tunesmith_finetune.processes import ChildFailed, run_child
from tunesmith_finetune.whole import write_json
from tunesmith_finetune.workspace import Workspace, read_json, read_rows
from tunesmith_shared.tables import Job

Found = dict[str, dict[str, Any]]


async def measure(pipeline: Pipeline, job: Job) -> dict[str, Any]:
    """Return the losses by subject; a job does not fail because they cannot be measured."""
    workspace = pipeline.workspace(job)
    if workspace.losses.exists():
        return read_json(workspace.losses)
    rows = measures.measured_rows(read_rows(workspace.tokens("train")), read_rows(workspace.tokens("valid")))
    doing, done = "measuring the finished files on the rows that base and adapter were measured on", "measured them"
    async with act(pipeline, job, "measure", doing, done) as told:
        found = _by_training(workspace, rows)
        found |= await _by_child(pipeline, job, rows, [name for name in (BASE, ADAPTER) if name not in found])
        told.data = losses = _losses(workspace, rows, found)
        told.detail = ", ".join(f"{name} {_shown(loss)}" for name, loss in losses.items())
    write_json(workspace.losses, losses)
    return losses


def measured_in(workspace: Workspace) -> str:
    """Return the name of the number format that the losses were measured in."""
    number_format: str = read_json(workspace.training).get("number_format", "float32")
    return number_format


def _by_training(workspace: Workspace, rows: measures.Rows) -> Found:
    """Return what the training process measured, of the rows that the finished files are measured on."""
    if read_json(workspace.training)["quantization"] != "none":
        return {}
    found: Found = {}
    for name in (BASE, ADAPTER):
        if (path := workspace.trained_figures(name)).exists():
            figures = [Figures(*text) for text in read_json(path)["figures"]]
            found[name] = {"figures": measures.evenly_of(figures, rows)}
    return found


async def _by_child(pipeline: Pipeline, job: Job, rows: measures.Rows, missing: list[str]) -> Found:
    """Measure what is `missing` and the finished files in a child process."""
    workspace = pipeline.workspace(job)
    subjects: list[dict[str, str]] = [{"name": name} for name in missing]
    if types := gguf_types(read_json(workspace.plan)["hyperparameters"]["gguf_type"]):
        subjects.append({"name": MERGED, "gguf": str(workspace.merged_gguf)})
        subjects += [{"name": label, "gguf": str(workspace.model_gguf(label))} for label in types]
    if not subjects:
        return {}
    write_json(workspace.proof, {"texts": measures.texts(measures.evenly(rows)), "subjects": subjects})
    command = [sys.executable, "-m", "tunesmith_finetune.measure", str(workspace.folder)]
    try:
        await run_child(command, title="The measurement", log=workspace.log, limits=pipeline.training_limits)
    except ChildFailed as error:
        return {subject["name"]: {"error": error.message} for subject in subjects}
    found: Found = read_json(workspace.figures)
    return found


def _losses(workspace: Workspace, rows: measures.Rows, found: Found) -> dict[str, Any]:
    """Return the losses by subject, base and adapter first; or the error that kept one from being measured."""
    plan, looked_at = read_json(workspace.plan), measures.evenly(rows)
    figures = {name: [Figures(*text) for text in one["figures"]] for name, one in found.items() if "figures" in one}
    losses: dict[str, Any] = {}
    for name in sorted(found, key=lambda name: (name != BASE, name != ADAPTER)):
        if name in figures and BASE in figures:
            beta = plan["hyperparameters"]["beta"]
            losses[name] = measures.measure(plan["method"], looked_at, figures[name], figures[BASE], beta)
        else:
            losses[name] = {"error": found[name].get("error", "the base was not measured")}
    return losses


def _shown(loss: dict[str, Any]) -> str:
    return f"{loss['loss']:.4f}" if "loss" in loss else "not measured"

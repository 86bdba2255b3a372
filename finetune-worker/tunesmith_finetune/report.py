"""The report of a finished job: what it was made from, how, what it cost and what it gained."""

import json
from typing import Any

from tunesmith_finetune.workspace import Workspace, read_json
from tunesmith_shared.tables import Job


def build_report(job: Job, workspace: Workspace) -> dict[str, Any]:
    """Return the report of a job whose steps are done. Losses are in nats a token; `improvement` is from 0 to 1."""
    plan, training, check = (read_json(path) for path in (workspace.plan, workspace.training, workspace.check))
    before, after = training["before"], training["after"]
    measured = before is not None and after is not None
    return {
        "job": job.id,
        "model": job.model_name,
        "base_model": plan["base_model"],
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "seed": job.seed,
        "method": plan["method"],
        "hyperparameters": {**plan["hyperparameters"], "quantization": training["quantization"]},
        "losses": {
            "base_eval_loss": before["loss"] if measured else None,
            "eval_loss": after["loss"] if measured else None,
            "improvement": 1 - after["loss"] / before["loss"] if measured else None,
            **(_accuracies(before, after) if measured else {}),
            "quantised_eval_loss": read_json(workspace.quantised)["loss"] if workspace.quantised.exists() else None,
            "train_loss": training["train_loss"],
        },
        "training": {name: training[name] for name in ("seconds", "steps", "trained_tokens", "device")},
        "file": check["file"],
        "sample": check["answer"],
    }


def _accuracies(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return each accuracy that was measured, before (`base_eval_...`) and after (`eval_...`) training."""
    names = [name for name in ("accuracy", "reward_accuracy", "preferred") if name in before]
    pairs = {f"base_eval_{name}": before[name] for name in names} | {f"eval_{name}": after[name] for name in names}
    return {**pairs, **({"reward_margin": after["margin"]} if "margin" in after else {})}


def as_json(report: dict[str, Any]) -> str:
    """Return the report for machines."""
    return json.dumps(report, ensure_ascii=False, indent=2) + "\n"


def as_markdown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    losses, training, file, sample = (report[name] for name in ("losses", "training", "file", "sample"))
    tensors = ", ".join(f"{count} {name}" for name, count in file["tensor_types"].items())
    lines = [
        f"# {report['model']}",
        "",
        f"Fine-tuned from {report['base_model']} in job {report['job']}, with seed {report['seed']}.",
        "",
        f"- trained {training['steps']} steps in {training['seconds']} s on {training['device']}",
        f"- {file['gguf_type']}, {file['bytes'] / 1e6:.1f} MB; tensors: {tensors}",
    ]
    if losses["improvement"] is not None:
        lines.append(
            f"- loss on rows never trained on: {losses['base_eval_loss']:.3f} before, {losses['eval_loss']:.3f} after: "
            f"{losses['improvement']:.0%} lower"
        )
    if losses["quantised_eval_loss"] is not None:
        lines.append(
            f"- loss of the finished {file['gguf_type']} file on the same rows: {losses['quantised_eval_loss']:.3f} "
            "(its weights, dequantised; serving also rounds activations)"
        )
    if "eval_reward_accuracy" in losses:
        lines.append(
            f"- reward accuracy on pairs never trained on: {losses['base_eval_reward_accuracy']:.0%} before, "
            f"{losses['eval_reward_accuracy']:.0%} after; the preferred answer is the likelier one for "
            f"{losses['base_eval_preferred']:.0%} of the pairs before and {losses['eval_preferred']:.0%} after"
        )
    values = "\n".join(f"- {name}: {value}" for name, value in report["hyperparameters"].items() if value is not None)
    quoted = "\n".join(f"> {line}" for line in (f"{sample['prompt']}\n\n{sample['text']}").splitlines())
    return "\n".join([*lines, "", "## Hyperparameters", "", values, "", "## A sample", "", quoted, ""])

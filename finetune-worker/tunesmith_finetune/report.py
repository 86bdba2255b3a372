"""The report of a finished job: what it was made from, how, what it cost and what it gained."""

import json
from typing import Any

from tunesmith_finetune.workspace import Workspace, read_json
from tunesmith_shared.tables import Job


def build_report(job: Job, workspace: Workspace) -> dict[str, Any]:
    """Return the report of a job that was verified. Losses are in nats a token; `improvement` is from 0 to 1.

    `registered` has the names that the model got; none when it failed a check.
    """
    plan, training, check = (read_json(path) for path in (workspace.plan, workspace.training, workspace.check))
    before, after = training["before"], training["after"]
    measured = before is not None and after is not None
    served = check["losses"].get(next(iter(check["files"])), {})
    return {
        "job": job.id,
        "model": job.model_name,
        "registered": list(read_json(workspace.published)) if workspace.published.exists() else [],
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
            "quantised_eval_loss": served.get("loss") if measured and workspace.is_merged else None,
            "train_loss": training["train_loss"],
        },
        "proof": {name: check[name] for name in ("checks", "losses", "parity")},
        "training": {name: training[name] for name in ("seconds", "steps", "trained_tokens", "device")},
        "file": check["file"],
        "files": check["files"],
        "sample": check["answer"],
        "samples": check["samples"],
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
    parts = [
        f"# {report['model']}",
        origin(report),
        "\n".join(f"- {fact}" for fact in facts(report)),
        "## Checks",
        "\n".join(f"- {verdict(check)}: {check['detail']}" for check in report["proof"]["checks"]),
        "## Losses on the same rows",
        _table(("model", "loss", "accuracy"), losses_rows(report)),
        "## Answers side by side",
        "\n\n".join(_quoted(sample) for sample in report["samples"]),
        "## Hyperparameters",
        "\n".join(f"- {name}: {value}" for name, value in report["hyperparameters"].items() if value is not None),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def origin(report: dict[str, Any]) -> str:
    """Return the sentence that says what the model was made from, and what it is called."""
    names = ", ".join(report["registered"])
    sentence = f"Fine-tuned from {report['base_model']} in job {report['job']}, with seed {report['seed']}."
    return f"{sentence} Registered as {names}." if names else f"{sentence} Not registered."


def facts(report: dict[str, Any]) -> list[str]:
    """Return what there is to say of the training and of the files, a sentence each."""
    losses, training = report["losses"], report["training"]
    lines = [f"trained {training['steps']} steps in {training['seconds']} s on {training['device']}"]
    for file in report["files"].values():
        tensors = ", ".join(f"{count} {name}" for name, count in file["tensor_types"].items())
        lines.append(f"{file['gguf_type']}, {file['bytes'] / 1e6:.1f} MB; tensors: {tensors}")
    if losses["improvement"] is not None:
        lines.append(
            f"loss on rows never trained on: {losses['base_eval_loss']:.3f} before, {losses['eval_loss']:.3f} after: "
            f"{losses['improvement']:.0%} lower"
        )
    if "eval_reward_accuracy" in losses:
        lines.append(
            f"reward accuracy on rows never trained on: {losses['base_eval_reward_accuracy']:.0%} before, "
            f"{losses['eval_reward_accuracy']:.0%} after"
        )
    if "eval_preferred" in losses:
        lines.append(
            f"the preferred answer is the likelier one for {losses['base_eval_preferred']:.0%} of the pairs before and "
            f"{losses['eval_preferred']:.0%} after"
        )
    return lines


def losses_rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a row for each model that was measured: its name, loss and accuracy.

    Of a quantised file the weights are measured, dequantised; serving also rounds activations.
    """
    return [
        (name, f"{found['loss']:.4f}", f"{found.get('accuracy', found.get('reward_accuracy', 0)):.1%}")
        if "loss" in found
        else (name, "not measured", found.get("error", ""))
        for name, found in report["proof"]["losses"].items()
    ]


def verdict(check: dict[str, Any]) -> str:
    """Return how a check ended, in a word or two."""
    return {True: "passed", False: "FAILED", None: "not checked"}[check["passed"]]


def _table(columns: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns), *(" | ".join(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _quoted(sample: dict[str, Any]) -> str:
    answers = (("tuned", sample["text"]), ("base", sample["base"]), ("dataset", sample["expected"]))
    said = "\n>\n".join(f"> **{who}:** {_lines(text)}" for who, text in answers if text is not None)
    return f"**{_lines(sample['prompt'])}**\n\n{said}"


def _lines(text: str) -> str:
    return text.strip().replace("\n", "\n> ")

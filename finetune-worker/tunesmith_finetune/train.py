"""Train an adapter, or all weights, on encoded rows, pairs or rated answers: the child process of the training step.

    python -m tunesmith_finetune.train_child <job folder>

Reads `plan.json`, `train.tokens.jsonl` and, if there is one, `valid.tokens.jsonl` from the job's folder. Writes what
the base makes of the rows that are measured to `base.figures.json`, checkpoints below `checkpoints/`, what was learnt
to `adapter/`, what it makes of these rows to `adapter.figures.json`, and at last `training.json` with losses and times.
Started again after it was killed, it goes on from the last whole checkpoint. Progress goes to standard output, a JSON
object a line with a `type`: `setup`, `evaluation` (before and after), `metrics` (a step), `validation` (meanwhile),
`checkpoint`. Everything else goes to standard error.
"""

import errno
import json
import os
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, set_seed

from tunesmith_finetune import measures
from tunesmith_finetune.checkpoints import last_whole_checkpoint
from tunesmith_finetune.device import Device, choose_device
from tunesmith_finetune.evaluate import run_over
from tunesmith_finetune.measures import ADAPTER, BASE, Figures
from tunesmith_finetune.progress import Pausing, Progress, Reporter
from tunesmith_finetune.trainers import METHODS, Data
from tunesmith_finetune.whole import write_json
from tunesmith_finetune.workspace import read_rows

CHECKPOINTS_AT_ONCE = 3
TOKENIZER_BYTES = 8 * 2**20


def main(folder: Path, reporter: Reporter) -> None:
    """Train as `plan.json` in `folder` says."""
    # --- arguments
    plan = json.loads((folder / "plan.json").read_text())
    chosen = plan["hyperparameters"]
    set_seed(plan["seed"])
    torch.set_num_threads(plan["threads"] or os.cpu_count() or 1)

    # --- set-up and data
    device = choose_device(chosen["quantization"])
    train_rows = read_rows(folder / "train.tokens.jsonl")
    valid_rows = read_rows(folder / "valid.tokens.jsonl")
    trainer = METHODS[plan["method"]](folder, plan, device, Data(train_rows, valid_rows))
    require_space(folder, trainer.model)
    trainer.add_callback(Progress(reporter))
    trainer.add_callback(pausing := Pausing(folder / "pause"))
    reporter.say("setup", device=device.kind, quantization=device.quantization, bfloat16=device.autocast_bf16)

    # --- the loss before
    resume = last_whole_checkpoint(folder / "checkpoints")
    measured = measures.measured_rows(train_rows, valid_rows)
    base = _base_figures(folder / f"{BASE}.figures.json", trainer, device, measured)
    before = measures.measure(plan["method"], measured, base, base, chosen["beta"]) if valid_rows else None
    if before:
        reporter.say("evaluation", when="before", **before)

    # --- the loop
    started = time.monotonic()
    try:
        outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except Exception:
        require_space(folder, trainer.model)  # when that is why, it says so and how much is needed
        raise
    seconds = time.monotonic() - started
    if pausing.asked:
        return

    # --- what was learnt, and the loss after
    _save(trainer, folder / "adapter")
    adapted = _figures(trainer, device, measured)
    write_json(folder / f"{ADAPTER}.figures.json", {"figures": adapted})
    after = measures.measure(plan["method"], measured, adapted, base, chosen["beta"]) if valid_rows else None
    if after:
        reporter.say("evaluation", when="after", **after)
    write_json(
        folder / "training.json",
        {
            "seconds": round(seconds, 1),
            "steps": outcome.global_step,
            "train_loss": outcome.training_loss,
            "trained_tokens": round(plan["tokens_an_epoch"] * (trainer.state.epoch or chosen["n_epochs"])),
            "before": before,
            "after": after,
            "device": device.kind,
            "quantization": device.quantization,
            "number_format": str(device.dtype).removeprefix("torch."),
        },
    )


def _save(trainer: Trainer, adapter: Path) -> None:
    """Write what was learnt to the folder `adapter`, which appears whole; over what an earlier run left there."""
    draft = adapter.with_name(f"{adapter.name}.{os.getpid()}.part")
    trainer.save_model(str(draft))
    shutil.rmtree(adapter, ignore_errors=True)
    draft.rename(adapter)


def _base_figures(file: Path, trainer: Trainer, device: Device, rows: measures.Rows) -> list[Figures]:
    """Return the figures of the base, out of `file` where an earlier run of the job has put them."""
    if not file.exists():
        write_json(file, {"figures": _figures(trainer, device, rows)})
    return [Figures(*text) for text in json.loads(file.read_text())["figures"]]


def _figures(trainer: Trainer, device: Device, rows: measures.Rows) -> list[Figures]:
    """Return what the trainer's model makes of `rows`.

    Products are made in the weights' own numbers, so that only a merged file's rounding can tell it from this. With a
    quantised base they are made as in training; such figures are compared with each other only.
    """
    tokenizer, number_format = cast(PreTrainedTokenizerBase, trainer.processing_class), trainer.accelerator.autocast
    model = cast(PreTrainedModel, trainer.model)
    if device.quantization == "none":
        model, number_format = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False), nullcontext
    return run_over(model, cast(int, tokenizer.pad_token_id), number_format, measures.texts(rows))


def require_space(folder: Path, model: Any) -> None:
    """Raise `OSError` (no space) when the disk has no room for the checkpoints: weights and both moments in float32.

    Two are kept while the third is written; beside each is the tokenizer.
    """
    learnt = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    needed, free = CHECKPOINTS_AT_ONCE * (12 * learnt + TOKENIZER_BYTES), shutil.disk_usage(folder).free
    if free < needed:
        there = f"the checkpoints need {needed / 2**20:.0f} MiB in {folder} and {free / 2**20:.0f} MiB are free"
        raise OSError(errno.ENOSPC, f"No space left on device: {there}")

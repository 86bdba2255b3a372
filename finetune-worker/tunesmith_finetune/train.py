"""Train a LoRA adapter on encoded rows: the child process of a job's training step.

    python -m tunesmith_finetune.train <job folder>

Reads `plan.json`, `train.tokens.jsonl` and, if there is one, `valid.tokens.jsonl` from the job's folder. Writes
checkpoints below `checkpoints/`, the adapter to `adapter/`, and at last `training.json` with losses and times. Started
again after it was killed, it goes on from the last whole checkpoint. Progress goes to standard output, a JSON object a
line with a `type`: `setup`, `evaluation`, `metrics` (a step), `checkpoint`. Everything else goes to standard error.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # trl imports them lazily

from tunesmith_finetune.checkpoints import last_whole_checkpoint
from tunesmith_finetune.device import Device, choose_device, quantization_config
from tunesmith_finetune.evaluate import evaluate
from tunesmith_finetune.progress import Progress, Reporter
from tunesmith_finetune.whole import write_json

CHECKPOINTS_A_RUN = 8
EVENTS_A_RUN = 200


def main(folder: Path, reporter: Reporter) -> None:
    """Train as `plan.json` in `folder` says."""
    # --- arguments
    plan = json.loads((folder / "plan.json").read_text())
    chosen = plan["hyperparameters"]
    set_seed(plan["seed"])
    torch.set_num_threads(plan["threads"] or os.cpu_count() or 1)

    # --- set-up and data
    device = choose_device(chosen["quantization"])
    train_rows = _read_rows(folder / "train.tokens.jsonl")
    valid_rows = _read_rows(folder / "valid.tokens.jsonl")
    trainer = _trainer(folder, plan, device, train_rows)
    trainer.add_callback(Progress(reporter))
    reporter.say("setup", device=device.kind, quantization=device.quantization, bfloat16=device.autocast_bf16)

    # --- the loss before
    resume = last_whole_checkpoint(folder / "checkpoints")
    before_file = folder / "before.json"
    if valid_rows and not before_file.exists():
        write_json(before_file, evaluate(trainer, valid_rows))
        reporter.say("evaluation", when="before", **json.loads(before_file.read_text()))

    # --- the loop
    started = time.monotonic()
    outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    seconds = time.monotonic() - started

    # --- the loss after, and what was learnt
    after = evaluate(trainer, valid_rows) if valid_rows else None
    if after:
        reporter.say("evaluation", when="after", **after)
    draft = folder / f"adapter.{os.getpid()}.part"
    trainer.save_model(str(draft))
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    draft.rename(folder / "adapter")
    write_json(
        folder / "training.json",
        {
            "seconds": round(seconds, 1),
            "steps": outcome.global_step,
            "train_loss": outcome.training_loss,
            "trained_tokens": plan["tokens_an_epoch"] * chosen["n_epochs"],
            "before": json.loads(before_file.read_text()) if valid_rows else None,
            "after": after,
            "device": device.kind,
            "quantization": device.quantization,
        },
    )


def _trainer(folder: Path, plan: dict[str, Any], device: Device, rows: list[dict[str, Any]]) -> SFTTrainer:
    chosen = plan["hyperparameters"]
    model = AutoModelForCausalLM.from_pretrained(
        plan["base_folder"],
        dtype=device.dtype,
        quantization_config=quantization_config(device),
        device_map=device.kind,
    )
    adapter = LoraConfig(
        r=chosen["lora_rank"],
        lora_alpha=chosen["lora_alpha"],
        lora_dropout=chosen["lora_dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = SFTTrainer(
        model=model,
        args=_arguments(folder, plan, device),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(plan["base_folder"]),
        peft_config=adapter,
    )
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    return trainer


def _arguments(folder: Path, plan: dict[str, Any], device: Device) -> SFTConfig:
    chosen, steps = plan["hyperparameters"], plan["estimated_steps"]
    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=chosen["n_epochs"],
        per_device_train_batch_size=chosen["batch_size"],
        gradient_accumulation_steps=chosen["gradient_accumulation_steps"],
        activation_checkpointing=chosen["gradient_checkpointing"],
        learning_rate=chosen["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        max_length=chosen["max_length"],
        packing=chosen["packing"],
        train_sampling_strategy="group_by_length" if not chosen["packing"] else "random",
        bf16=device.autocast_bf16,
        use_cpu=device.kind == "cpu",
        dataloader_pin_memory=device.kind == "cuda",
        logging_steps=max(1, steps // EVENTS_A_RUN),
        save_steps=max(1, steps // CHECKPOINTS_A_RUN),
        save_total_limit=2,
        seed=plan["seed"],
        report_to=[],
    )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]


if __name__ == "__main__":
    to_parent = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the reports
    main(Path(sys.argv[1]), Reporter(to_parent))

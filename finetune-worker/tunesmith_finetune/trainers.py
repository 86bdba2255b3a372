"""The methods of training: for each, the TRL trainer that a plan describes, and how its loss is measured.

A new method is a function that makes a trainer, one that evaluates, and an entry in `METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import (  # type: ignore[attr-defined]  # trl imports them lazily
    DPOConfig,
    DPOTrainer,
    SFTConfig,
    SFTTrainer,
)

from tunesmith_finetune.device import Device, quantization_config
from tunesmith_finetune.evaluate import evaluate_examples, evaluate_pairs

CHECKPOINTS_A_RUN = 8
EVENTS_A_RUN = 200
Plan = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Method:
    """How to make a trainer from a job's folder, its plan, the device and the rows; and how to measure it on rows."""

    trainer: Callable[[Path, Plan, Device, Rows], Trainer]
    evaluate: Callable[[Any, Rows], dict[str, float]]


class PairTrainer(DPOTrainer):
    """TRL's DPO on pairs that are tokens already, made as serving makes them; TRL would make its own."""

    def _prepare_dataset(self, dataset: Dataset, *_arguments: Any) -> Dataset:
        return dataset


def supervised_trainer(folder: Path, plan: Plan, device: Device, rows: Rows) -> Trainer:
    """Return the trainer of supervised fine-tuning."""
    chosen = plan["hyperparameters"]
    arguments = SFTConfig(
        packing=chosen["packing"],
        train_sampling_strategy="group_by_length" if not chosen["packing"] else "random",
        **_arguments(folder, plan, device),
    )
    return _quiet(SFTTrainer(args=arguments, **_parts(plan, device, rows)))


def preference_trainer(folder: Path, plan: Plan, device: Device, rows: Rows) -> Trainer:
    """Return the trainer of direct preference optimisation (arXiv 2305.18290).

    The reference is the same model with the adapter off, so there is no second copy of it in memory.
    """
    chosen = plan["hyperparameters"]
    arguments = DPOConfig(
        beta=chosen["beta"],
        disable_dropout=not chosen["lora_dropout"],  # else what a person asked for would be switched off
        **_arguments(folder, plan, device),
    )
    return _quiet(PairTrainer(args=arguments, **_parts(plan, device, rows)))


METHODS = {
    "supervised": Method(supervised_trainer, evaluate_examples),
    "dpo": Method(preference_trainer, evaluate_pairs),
}


def load_model(folder: str, device: Device) -> PreTrainedModel:
    """Return the base model in `folder`, on the device and in its numbers."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=device.dtype, quantization_config=quantization_config(device), device_map=device.kind
    )
    return model


def _parts(plan: Plan, device: Device, rows: Rows) -> dict[str, Any]:
    chosen = plan["hyperparameters"]
    return {
        "model": load_model(plan["base_folder"], device),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": AutoTokenizer.from_pretrained(plan["base_folder"]),
        "peft_config": LoraConfig(
            r=chosen["lora_rank"],
            lora_alpha=chosen["lora_alpha"],
            lora_dropout=chosen["lora_dropout"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    }


def _quiet(trainer: Trainer) -> Trainer:
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    return trainer


def _arguments(folder: Path, plan: Plan, device: Device) -> dict[str, Any]:
    chosen, steps = plan["hyperparameters"], plan["estimated_steps"]
    return {
        "output_dir": str(folder / "checkpoints"),
        "num_train_epochs": chosen["n_epochs"],
        "per_device_train_batch_size": chosen["batch_size"],
        "gradient_accumulation_steps": chosen["gradient_accumulation_steps"],
        "activation_checkpointing": chosen["gradient_checkpointing"],
        "learning_rate": chosen["learning_rate"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "max_length": chosen["max_length"],
        "bf16": device.autocast_bf16,
        "use_cpu": device.kind == "cpu",
        "dataloader_pin_memory": device.kind == "cuda",
        "logging_steps": max(1, steps // EVENTS_A_RUN),
        "save_steps": max(1, steps // CHECKPOINTS_A_RUN),
        "save_total_limit": 2,
        "seed": plan["seed"],
        "report_to": [],
    }

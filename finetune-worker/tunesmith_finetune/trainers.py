"""The methods of training: for each, the TRL trainer that a plan describes.

A new method is a function that makes a trainer and an entry in `METHODS`; what it is judged by is in `measures.py`.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
)
from transformers.pytorch_utils import Conv1D
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import DPOConfig, KTOConfig, SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # trl imports them lazily

from tunesmith_finetune.device import Device, attention, has_liger, quantization_config
from tunesmith_finetune.prepared_trainers import OddsTrainer, ORPOConfig, PairTrainer, RatedTrainer

CHECKPOINTS_A_RUN = 8
EVENTS_A_RUN = 200
Plan = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Data:
    """The rows to train on, and those to evaluate on (none: an empty list)."""

    train: Rows
    valid: Rows


def supervised_trainer(folder: Path, plan: Plan, device: Device, data: Data) -> Trainer:
    """Return the trainer of supervised fine-tuning.

    Packed rows do not see each other: their positions begin anew, from which attention knows where a row ends.
    """
    chosen = plan["hyperparameters"]
    arguments = SFTConfig(
        packing=chosen["packing"],
        eval_packing=False,
        train_sampling_strategy="group_by_length" if not chosen["packing"] else "random",
        **_arguments(folder, plan, device, data),
    )
    return _finished(SFTTrainer(args=arguments, **_parts(plan, device, data)), plan)


def pair_trainer(folder: Path, plan: Plan, device: Device, data: Data) -> Trainer:
    """Return the trainer of direct preference optimisation.

    The reference is the same model with the adapter off, so there is no second copy of it in memory.
    """
    chosen = plan["hyperparameters"]
    arguments = DPOConfig(beta=chosen["beta"], **_dropout(plan), **_arguments(folder, plan, device, data))
    return _finished(PairTrainer(args=arguments, **_parts(plan, device, data)), plan)


def odds_trainer(folder: Path, plan: Plan, device: Device, data: Data) -> Trainer:
    """Return the trainer of odds ratio preference optimisation, which needs no reference."""
    chosen = plan["hyperparameters"]
    arguments = ORPOConfig(beta=chosen["beta"], **_dropout(plan), **_arguments(folder, plan, device, data))
    return _finished(OddsTrainer(args=arguments, **_parts(plan, device, data)), plan)


def rated_trainer(folder: Path, plan: Plan, device: Device, data: Data) -> Trainer:
    """Return the trainer of Kahneman-Tversky optimisation, whose reference is the model with the adapter off.

    Rows are mixed here, once: batches must stay together, and should hold liked and disliked answers.
    """
    chosen = plan["hyperparameters"]
    mixed = list(data.train)
    random.Random(plan["seed"]).shuffle(mixed)  # noqa: S311 - the order of rows is no secret
    arguments = KTOConfig(
        beta=chosen["beta"],
        desirable_weight=chosen["desirable_weight"],
        undesirable_weight=chosen["undesirable_weight"],
        **_dropout(plan),
        **_arguments(folder, plan, device, data) | {"per_device_eval_batch_size": chosen["batch_size"]},
    )
    return _finished(RatedTrainer(args=arguments, **_parts(plan, device, Data(mixed, data.valid))), plan)


METHODS: dict[str, Callable[[Path, Plan, Device, Data], Trainer]] = {
    "supervised": supervised_trainer,
    "dpo": pair_trainer,
    "orpo": odds_trainer,
    "kto": rated_trainer,
}
"""What makes a trainer from a job's folder, its plan, the device and the rows."""


def load_model(folder: str, device: Device) -> PreTrainedModel:
    """Return the base model in `folder`, on the device and in its numbers."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=device.dtype,
        quantization_config=quantization_config(device),
        device_map=device.kind,
        attn_implementation=attention(device),
    )
    return model


def _parts(plan: Plan, device: Device, data: Data) -> dict[str, Any]:
    model = load_model(plan["base_folder"], device)
    return {
        "model": model,
        "train_dataset": Dataset.from_list(data.train),
        "eval_dataset": Dataset.from_list(data.valid) if _evaluates(plan, data) else None,
        "processing_class": AutoTokenizer.from_pretrained(plan["base_folder"]),
        "peft_config": _adapter(plan["hyperparameters"], model),
    }


def _adapter(chosen: dict[str, Any], model: PreTrainedModel) -> LoraConfig | None:
    """Return how the adapter is made (LoRA, arXiv 2106.09685); None where all weights are learnt."""
    if chosen["tuning"] == "full":
        return None
    return LoraConfig(
        r=chosen["lora_rank"],
        lora_alpha=chosen["lora_alpha"],
        lora_dropout=chosen["lora_dropout"],
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )


def _finished(trainer: Trainer, plan: Plan) -> Trainer:
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    if (patience := plan["hyperparameters"]["early_stopping_patience"]) and trainer.eval_dataset is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))
    return trainer


def _evaluates(plan: Plan, data: Data) -> bool:
    return bool(plan["hyperparameters"]["evaluations"] and data.valid)


def _dropout(plan: Plan) -> dict[str, Any]:
    """Return whether preference training switches dropout off; not when a person asked for some."""
    return {"disable_dropout": not plan["hyperparameters"]["lora_dropout"]}


def _arguments(folder: Path, plan: Plan, device: Device, data: Data) -> dict[str, Any]:
    chosen, steps = plan["hyperparameters"], plan["estimated_steps"]
    return {
        "output_dir": str(folder / "checkpoints"),
        "num_train_epochs": chosen["n_epochs"],
        "per_device_train_batch_size": chosen["batch_size"],
        "gradient_accumulation_steps": chosen["gradient_accumulation_steps"],
        "activation_checkpointing": chosen["gradient_checkpointing"],
        "learning_rate": chosen["learning_rate"],
        "lr_scheduler_type": _scheduler(chosen),
        "warmup_steps": chosen["warmup_ratio"],
        "weight_decay": chosen["weight_decay"],
        "max_length": chosen["max_length"],
        "bf16": device.autocast_bf16,
        "use_cpu": device.kind == "cpu",
        "use_liger_kernel": has_liger(device),
        "dataloader_pin_memory": device.kind == "cuda",
        "logging_steps": max(1, steps // EVENTS_A_RUN),
        "save_steps": max(1, steps // CHECKPOINTS_A_RUN),
        "save_total_limit": 2,
        "seed": plan["seed"],
        "report_to": plan["report_to"],
        "project": "tunesmith",
        "run_name": plan["run_name"],
        **(_evaluation(chosen, steps) if _evaluates(plan, data) else {}),
    }


def _scheduler(chosen: dict[str, Any]) -> str:
    """Return transformers' name; its "constant" knows no warm-up."""
    warmed = chosen["scheduler"] == "constant" and chosen["warmup_ratio"]
    return "constant_with_warmup" if warmed else str(chosen["scheduler"])


def _evaluation(chosen: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return how the loss is measured on the evaluation rows meanwhile; the best checkpoint is then what is kept."""
    every = max(1, math.ceil(steps / chosen["evaluations"]))
    stops = bool(chosen["early_stopping_patience"])
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": False}
    return {
        "eval_strategy": "steps",
        "eval_steps": every,
        "per_device_eval_batch_size": max(8, chosen["batch_size"]),
        **({**best, "save_steps": every} if stops else {}),
    }

"""The loss on rows that are not trained on, measured alike before and after training."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOTrainer, SFTTrainer  # type: ignore[attr-defined]  # trl imports them lazily
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

ROWS_AT_ONCE = 8


def evaluate_examples(trainer: SFTTrainer, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return `loss` (nats a token, over the learnt tokens of all rows alike) and `accuracy` on `rows`.

    `accuracy` is how often the likeliest token is the right one.

    Every token counts the same, however the rows are batched; rows of similar length go together to save padding.
    """
    model = cast(PreTrainedModel, trainer.model)
    tokenizer = cast(PreTrainedTokenizerBase, trainer.processing_class)
    return measure_examples(model, cast(int, tokenizer.pad_token_id), trainer.accelerator.autocast, rows)


def measure_examples(
    model: PreTrainedModel,
    pad_token_id: int,
    number_format: Callable[[], AbstractContextManager[Any]],
    rows: list[dict[str, Any]],
) -> dict[str, float]:
    """Return what `evaluate_examples` does, for any model; products are made in what `number_format` sets."""
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
    was_training = model.training
    model.train(False)
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    loss_sum, right, count = 0.0, 0, 0
    with torch.no_grad():
        for start in range(0, len(ordered), ROWS_AT_ONCE):
            batch = collate(ordered[start : start + ROWS_AT_ONCE])
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            labels = batch.pop("labels")[:, 1:]
            with number_format():
                logits = model(**batch, use_cache=False).logits[:, :-1]
            learnt = labels != -100
            logits, labels = logits[learnt].float(), labels[learnt]
            loss_sum += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(-1) == labels).sum().item())
            count += labels.numel()
    model.train(was_training)
    return {"loss": loss_sum / max(1, count), "accuracy": right / max(1, count), "tokens": count}


def completion_log_probabilities(
    model: PreTrainedModel,
    pad_token_id: int,
    number_format: Callable[[], AbstractContextManager[Any]],
    sequences: list[tuple[list[int], list[int]]],
) -> list[float]:
    """Return for each prompt and answer, as tokens, the sum of the log-probabilities of the answer's tokens."""
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
    model.train(False)
    found: list[float] = []
    with torch.no_grad():
        for start in range(0, len(sequences), ROWS_AT_ONCE):
            rows = [
                {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
                for prompt, answer in sequences[start : start + ROWS_AT_ONCE]
            ]
            batch = {name: tensor.to(model.device) for name, tensor in collate(rows).items()}
            labels = batch.pop("labels")[:, 1:]
            with number_format():
                logits = model(**batch, use_cache=False).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
            found += (-losses.sum(dim=1)).tolist()
    return found


def evaluate_pairs(trainer: DPOTrainer, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return what preference training is judged by, over all pairs alike.

    `loss` is DPO's, in nats a pair, and ln 2 for a model that equals its reference. `margin` is the mean reward of the
    chosen answers above the rejected ones; `reward_accuracy` is how often it is above zero, where a tie counts half.
    `preferred` is how often the model itself, whatever its reference, gives the chosen answer the higher probability.
    """
    model = cast(PreTrainedModel, trainer.model)
    was_training = model.training
    model.train(False)
    ordered = sorted(rows, key=lambda row: len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]))
    margins, preferences = [], []
    with torch.no_grad():
        for start in range(0, len(ordered), ROWS_AT_ONCE):
            batch = trainer.data_collator(ordered[start : start + ROWS_AT_ONCE])
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            references = trainer.compute_ref_log_probs(model, batch)  # type: ignore[no-untyped-call]
            labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
            with trainer.accelerator.autocast():  # as the reference is computed, or their rounding would differ
                token_logs = model(**batch, labels=labels, use_cache=False, fused_lm_head=True).log_probs
            chosen, rejected = token_logs.sum(dim=1).chunk(2)
            margins.append(trainer.beta * ((chosen - references[0]) - (rejected - references[1])))
            preferences.append(_share_above_zero(chosen - rejected))
    model.train(was_training)
    margin, preferred = torch.cat(margins).float(), torch.cat(preferences)
    return {
        "loss": -torch.nn.functional.logsigmoid(margin).mean().item(),
        "reward_accuracy": _share_above_zero(margin).mean().item(),
        "margin": margin.mean().item(),
        "preferred": preferred.mean().item(),
        "pairs": len(rows),
    }


def _share_above_zero(numbers: torch.Tensor) -> torch.Tensor:
    """Return 1 for each number above zero, a half for zero, 0 below."""
    return (numbers.float().sign() + 1) / 2

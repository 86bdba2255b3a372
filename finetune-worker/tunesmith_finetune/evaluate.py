"""The loss on rows that are not trained on, measured alike before and after training: of chats and texts."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTTrainer  # type: ignore[attr-defined]  # trl imports them lazily
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

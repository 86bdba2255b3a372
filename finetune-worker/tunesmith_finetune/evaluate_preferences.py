"""What preference training is judged by, on rows that are not trained on, before and after."""

from typing import Any, cast

import torch
from transformers import PreTrainedModel

from tunesmith_finetune.evaluate import ROWS_AT_ONCE
from tunesmith_finetune.prepared_trainers import OddsTrainer, PairTrainer, RatedTrainer

Rows = list[dict[str, Any]]


def evaluate_pairs(trainer: PairTrainer, rows: Rows) -> dict[str, float]:
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


def evaluate_odds(trainer: OddsTrainer, rows: Rows) -> dict[str, float]:
    """Return what odds ratio preference optimisation is judged by, over all pairs alike.

    `loss` is its loss: the chosen answer's, in nats a token, and `beta` times that of the odds. `reward_accuracy` and
    `preferred` are how often the chosen answer is the likelier one, token by token; a tie counts half.
    """
    sides = []
    for name in ("chosen_ids", "rejected_ids"):
        sums, counts = _log_probabilities(trainer, [(row["prompt_ids"], row[name]) for row in rows])
        sides.append(sums / counts)
    chosen, rejected = sides
    odds = (chosen - rejected) - (torch.log1p(-chosen.exp()) - torch.log1p(-rejected.exp()))
    loss = -chosen.mean() - trainer.beta * torch.nn.functional.logsigmoid(odds).mean()
    preferred = _share_above_zero(odds).mean().item()
    return {
        "loss": loss.item(),
        "reward_accuracy": preferred,
        "margin": (trainer.beta * (chosen - rejected)).mean().item(),
        "preferred": preferred,
        "pairs": len(rows),
    }


def evaluate_rated(trainer: RatedTrainer, rows: Rows) -> dict[str, float]:
    """Return what Kahneman-Tversky optimisation is judged by, over all rated answers alike.

    `loss` is its loss against a model that has not moved, a half for one that equals its reference. `margin` is the
    mean reward of liked answers above that of disliked ones; `reward_accuracy` is how often a reward has the sign that
    it should have, where zero counts half.
    """
    answers = [(row["prompt_ids"], row["completion_ids"]) for row in rows]
    model = cast(Any, trainer.model)
    own, _ = _log_probabilities(trainer, answers)
    with model.disable_adapter():
        reference, _ = _log_probabilities(trainer, answers)
    rewards = trainer.beta * (own - reference)
    liked = torch.tensor([bool(row["label"]) for row in rows])
    signed = torch.where(liked, rewards, -rewards)
    sides = [rewards[side].mean().item() if side.any() else 0.0 for side in (liked, ~liked)]
    return {
        "loss": (1 - torch.sigmoid(signed)).mean().item(),
        "reward_accuracy": _share_above_zero(signed).mean().item(),
        "margin": sides[0] - sides[1],
        "answers": len(rows),
    }


def _log_probabilities(trainer: Any, answers: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each answer after its prompt, in nats, and its number of tokens."""
    model, pad = trainer.model, trainer.processing_class.pad_token_id
    was_training = model.training
    model.train(False)
    sums, counts = [], []
    for start in range(0, len(answers), ROWS_AT_ONCE):
        some = answers[start : start + ROWS_AT_ONCE]
        longest = max(len(prompt) + len(answer) for prompt, answer in some)
        ids = torch.full((len(some), longest), pad)
        mask, learnt = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for index, (prompt, answer) in enumerate(some):
            end = len(prompt) + len(answer)
            ids[index, :end] = torch.tensor(prompt + answer)
            mask[index, :end] = 1
            learnt[index, len(prompt) : end] = True
        ids, mask, learnt = (tensor.to(model.device) for tensor in (ids, mask, learnt))
        with torch.no_grad(), trainer.accelerator.autocast():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        chosen = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        sums.append((chosen * learnt[:, 1:]).sum(1).cpu())
        counts.append(learnt[:, 1:].sum(1).cpu())
    model.train(was_training)
    return torch.cat(sums), torch.cat(counts)


def _share_above_zero(numbers: torch.Tensor) -> torch.Tensor:
    """Return 1 for each number above zero, a half for zero, 0 below."""
    return (numbers.float().sign() + 1) / 2

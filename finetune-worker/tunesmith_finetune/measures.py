"""What is measured of a model, and what follows from it: a loss and an accuracy for each method of training.

A model is run over texts once (`evaluate.py`), which gives `Figures` of each; the rest is arithmetic on these, without
torch, so that the process that trains and the one that measures finished files cannot differ in it. The base's figures
are the reference of preference training, so its own loss is ln 2 (DPO) or a half (KTO).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tunesmith_finetune.datasets.encode import NOT_LEARNT

BASE, ADAPTER, MERGED = "base", "adapter", "merged"
"""The names under which a job's models are measured; a quantised file's is its type."""

PROOF_ROWS = 64
"""How many rows a proof looks at, at the most."""

Rows = Sequence[dict[str, Any]]


class Figures(NamedTuple):
    """What a model made of a text: the log-probability of the learnt tokens together, in nats; how many of them it
    found the likeliest; and how many there are.
    """

    log_probability: float
    right: int
    tokens: int


def evenly(rows: Rows) -> Rows:
    """Return up to `PROOF_ROWS` of `rows`, from all over them."""
    return [rows[index] for index in _places(len(rows))]


def measured_rows(train: Rows, valid: Rows) -> Rows:
    """Return the rows that base and adapter are measured on: never trained on, or if there are none some that were."""
    return valid or evenly(train)


def texts(rows: Rows) -> list[dict[str, list[int]]]:
    """Return `input_ids` and `labels` that a model is run over: of pairs, first all chosen, then all rejected ones."""
    if "input_ids" in rows[0]:
        return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]
    answers = ("completion_ids",) if "completion_ids" in rows[0] else ("chosen_ids", "rejected_ids")
    return [
        {
            "input_ids": row["prompt_ids"] + row[answer],
            "labels": [NOT_LEARNT] * len(row["prompt_ids"]) + row[answer],
        }
        for answer in answers
        for row in rows
    ]


def evenly_of(figures: Sequence[Figures], rows: Rows) -> list[Figures]:
    """Return the figures of `evenly(rows)` out of those of all `rows`, in the order of `texts`."""
    places = _places(len(rows))
    return [figures[start + place] for start in range(0, len(figures), len(rows)) for place in places]


def _places(count: int) -> range:
    return range(0, count, max(1, count // PROOF_ROWS))[:PROOF_ROWS]


def measure(
    method: str, rows: Rows, own: Sequence[Figures], base: Sequence[Figures], beta: float | None
) -> dict[str, float]:
    """Return what `method` judges a model by that has the figures `own` on `rows`, and its base the figures `base`.

    `loss` is in nats a token, or a pair; `accuracy` is from 0 to 1.
    """
    return _MEASURES[method](rows, own, base, beta or 0.0)


def _supervised(_rows: Rows, own: Sequence[Figures], _base: Sequence[Figures], _beta: float) -> dict[str, float]:
    """Every token counts the same, however long its row is; the accuracy is that of the next token."""
    tokens = sum(text.tokens for text in own)
    return {
        "loss": -sum(text.log_probability for text in own) / max(1, tokens),
        "accuracy": sum(text.right for text in own) / max(1, tokens),
        "tokens": tokens,
    }


def _pairs(rows: Rows, own: Sequence[Figures], base: Sequence[Figures], beta: float) -> dict[str, float]:
    """Direct preference optimisation (arXiv 2305.18290).

    `margin` is the mean reward of the chosen answers above the rejected ones, `reward_accuracy` how often it is above
    zero; `preferred` is how often the model itself, whatever its base, gives the chosen answer the higher probability.
    A tie counts half.
    """
    logs = [text.log_probability for text in own]
    rewards = _rewards(own, base, beta)
    margins = _differences(rewards, len(rows))
    return {
        "loss": _mean([_softplus(-margin) for margin in margins]),
        "reward_accuracy": _mean([_above_zero(margin) for margin in margins]),
        "margin": _mean(margins),
        "preferred": _mean([_above_zero(difference) for difference in _differences(logs, len(rows))]),
        "pairs": len(rows),
    }


def _odds(rows: Rows, own: Sequence[Figures], _base: Sequence[Figures], beta: float) -> dict[str, float]:
    """Odds ratio preference optimisation (arXiv 2403.07691): the chosen answer's loss, and `beta` times the odds' loss.

    `reward_accuracy` and `preferred` are how often the chosen answer is the likelier one, token by token.
    """
    means = [text.log_probability / max(1, text.tokens) for text in own]
    odds = _differences([mean - math.log(max(-math.expm1(mean), 1e-30)) for mean in means], len(rows))
    preferred = _mean([_above_zero(ratio) for ratio in odds])
    return {
        "loss": -_mean(means[: len(rows)]) + beta * _mean([_softplus(-ratio) for ratio in odds]),
        "reward_accuracy": preferred,
        "margin": beta * _mean(_differences(means, len(rows))),
        "preferred": preferred,
        "pairs": len(rows),
    }


def _rated(rows: Rows, own: Sequence[Figures], base: Sequence[Figures], beta: float) -> dict[str, float]:
    """Kahneman-Tversky optimisation (arXiv 2402.01306), against a model that has not moved as a whole.

    `margin` is the mean reward of liked answers above that of disliked ones, `reward_accuracy` how often a reward has
    the sign that it should have.
    """
    rewards = _rewards(own, base, beta)
    signed = [reward if row["label"] else -reward for row, reward in zip(rows, rewards, strict=True)]
    sides = [
        [reward for row, reward in zip(rows, rewards, strict=True) if bool(row["label"]) is liked]
        for liked in (True, False)
    ]
    return {
        "loss": _mean([1 - 1 / (1 + math.exp(-reward)) for reward in signed]),
        "reward_accuracy": _mean([_above_zero(reward) for reward in signed]),
        "margin": _mean(sides[0]) - _mean(sides[1]),
        "answers": len(rows),
    }


_MEASURES: dict[str, Callable[[Rows, Sequence[Figures], Sequence[Figures], float], dict[str, float]]] = {
    "supervised": _supervised,
    "dpo": _pairs,
    "orpo": _odds,
    "kto": _rated,
}


def _rewards(own: Sequence[Figures], base: Sequence[Figures], beta: float) -> list[float]:
    return [beta * (ours.log_probability - theirs.log_probability) for ours, theirs in zip(own, base, strict=True)]


def _differences(numbers: Sequence[float], pairs: int) -> list[float]:
    """Return the chosen answers' numbers less those of the rejected ones, which come after them."""
    return [chosen - rejected for chosen, rejected in zip(numbers[:pairs], numbers[pairs:], strict=True)]


def _softplus(number: float) -> float:
    return max(number, 0.0) + math.log1p(math.exp(-abs(number)))


def _above_zero(number: float) -> float:
    return 0.5 if number == 0 else float(number > 0)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(1, len(numbers))

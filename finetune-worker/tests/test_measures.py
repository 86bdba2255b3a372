"""What follows from what a model makes of texts, for each method; and which texts these are."""

import math
from typing import Any

import pytest

from tunesmith_finetune.measures import Figures, evenly, evenly_of, measure, measured_rows, texts

PAIRS: list[dict[str, Any]] = [{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}] * 2


def figures(*logs: float) -> list[Figures]:
    return [Figures(log, 1, 2) for log in logs]


def test_every_token_of_a_supervised_row_counts_the_same() -> None:
    rows = [{"input_ids": [1, 2], "labels": [-100, 2]}, {"input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, 4]}]
    own = [Figures(-4.0, 0, 1), Figures(-3.0, 3, 3)]
    assert measure("supervised", rows, own, own, None) == {"loss": 7 / 4, "accuracy": 3 / 4, "tokens": 4}


def test_pairs_are_measured_against_the_base() -> None:
    base = figures(-1.0, -1.0, -1.0, -1.0)
    same = measure("dpo", PAIRS, base, base, 0.1)
    assert same["loss"] == pytest.approx(math.log(2))
    assert (same["reward_accuracy"], same["preferred"]) == (0.5, 0.5)
    better = measure("dpo", PAIRS, figures(-0.5, -0.5, -3.0, -0.2), base, 0.1)
    assert better["reward_accuracy"] == 0.5
    assert better["margin"] == pytest.approx(0.1 * (2.5 - 0.3) / 2)
    assert better["loss"] == pytest.approx((math.log1p(math.exp(-0.25)) + math.log1p(math.exp(0.03))) / 2)


def test_odds_need_no_reference() -> None:
    own = figures(-1.0, -1.0, -4.0, -4.0)  # of two tokens each: probabilities of e^-0.5 and e^-2 a token
    found = measure("orpo", PAIRS, own, figures(0.0, 0.0, 0.0, 0.0), 0.1)
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (-0.5, -2.0)]
    assert found["loss"] == pytest.approx(0.5 + 0.1 * math.log(1 + odds[1] / odds[0]))
    assert (found["reward_accuracy"], found["preferred"]) == (1.0, 1.0)


def test_rated_answers_are_measured_against_the_base() -> None:
    rated = [{"prompt_ids": [1], "completion_ids": [2], "label": liked} for liked in (True, False)]
    base = figures(-1.0, -1.0)
    assert measure("kto", rated, base, base, 0.1) == {"loss": 0.5, "reward_accuracy": 0.5, "margin": 0, "answers": 2}
    found = measure("kto", rated, figures(-0.5, -2.0), base, 1.0)
    assert found["loss"] == pytest.approx((1 / (1 + math.exp(0.5)) + 1 / (1 + math.exp(1.0))) / 2)
    assert found["reward_accuracy"] == 1.0
    assert found["margin"] == pytest.approx(1.5)


def test_a_pair_is_two_texts_whose_answers_are_learnt() -> None:
    made = texts([*PAIRS, {"prompt_ids": [5], "chosen_ids": [6], "rejected_ids": [7]}])
    assert [text["input_ids"] for text in made] == [[1, 2, 3], [1, 2, 3], [5, 6], [1, 4], [1, 4], [5, 7]]
    assert made[0]["labels"] == [-100, 2, 3]


def test_a_proof_looks_at_the_figures_of_rows_from_all_over() -> None:
    pairs = [{"prompt_ids": [place], "chosen_ids": [1], "rejected_ids": [2]} for place in range(200)]
    every = [Figures(float(side * 1000 + place), 0, 1) for side in range(2) for place in range(200)]
    looked_at = [row["prompt_ids"][0] for row in evenly(pairs)]
    assert len(looked_at) == 64
    assert looked_at[-1] > 180
    assert [log for log, *_ in evenly_of(every, pairs)] == [*looked_at, *(1000 + place for place in looked_at)]
    assert measured_rows(pairs, pairs[:3]) == pairs[:3]
    assert measured_rows(pairs, []) == evenly(pairs)

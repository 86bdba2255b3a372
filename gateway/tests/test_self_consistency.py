"""The policy alone: properties over many random texts, and a second way of computing the same."""

import random

import pytest

from tunesmith_gateway.sampling import seeded
from tunesmith_gateway.self_consistency import medoid, rank, rouge_l, words


def _subsequence(one: list[str], other: list[str]) -> int:
    """The textbook's table, to check the library against."""
    row = [0] * (len(other) + 1)
    for mine in one:
        before = row[:]
        for index, theirs in enumerate(other):
            row[index + 1] = before[index] + 1 if mine == theirs else max(row[index], before[index + 1])
    return row[-1]


def _texts(seed: int) -> list[str]:
    chance = random.Random(seed)  # noqa: S311 - repeatable texts
    vocabulary = ["red", "green", "blue", "é", "42", "Hund"][: chance.randint(1, 6)]
    return [" ".join(chance.choices(vocabulary, k=chance.randint(0, 30))) for _ in range(chance.randint(2, 8))]


@pytest.mark.parametrize("seed", range(50))
def test_similarity_is_the_f1_of_the_longest_common_subsequence(seed: int) -> None:
    one, other = (words(text) for text in _texts(seed)[:2])
    common = _subsequence(one, other)
    if one and other:
        precision, recall = common / len(one), common / len(other)
        wanted = 2 * precision * recall / (precision + recall) if common else 0.0
        assert rouge_l(one, other) == pytest.approx(wanted)
    assert rouge_l(one, other) == rouge_l(other, one)
    assert 0 <= rouge_l(one, other) <= 1
    assert rouge_l(one, one) == 1


@pytest.mark.parametrize("seed", range(50))
def test_scores_follow_their_texts_and_the_first_of_the_best_answers(seed: int) -> None:
    texts = _texts(seed)
    candidates = rank(texts)
    assert [candidate.content for candidate in candidates] == texts
    others = [
        sum(rouge_l(words(text), words(other)) for j, other in enumerate(texts) if j != i) / (len(texts) - 1)
        for i, text in enumerate(texts)
    ]
    assert [candidate.score for candidate in candidates] == pytest.approx(others)
    winner = medoid(candidates)
    assert candidates[winner].score == max(candidate.score for candidate in candidates)
    assert all(candidate.score < candidates[winner].score for candidate in candidates[:winner])
    order = random.Random(seed).sample(range(len(texts)), len(texts))  # noqa: S311 - a repeatable order
    assert [c.score for c in rank([texts[i] for i in order])] == [candidates[i].score for i in order]


def test_the_text_that_agrees_most_wins() -> None:
    candidates = rank(
        ["The tower is 12 metres high.", "I like trains.", "the tower is 12 meters high", "It is 12 high"]
    )
    assert medoid(candidates) == 0
    assert candidates[1].score < 0.2


def test_equal_texts_score_alike_and_the_first_of_them_answers() -> None:
    candidates = rank(["alpha one", "beta gamma delta", "one", "beta gamma delta", "beta"])
    assert candidates[1].score == candidates[3].score
    assert medoid(candidates) == 1


def test_one_sample_and_samples_without_words_have_a_score() -> None:
    assert rank(["alone"])[0].score == 1
    assert [candidate.score for candidate in rank(["...", "", "word"])] == [0.5, 0.5, 0]


def test_words_ignore_case_and_punctuation_and_split_scripts_without_spaces() -> None:
    assert words("The Cat, the 'HAT'; Straße 7!") == ["the", "cat", "the", "hat", "strasse", "7"]
    assert words("東京は雨") == ["東", "京", "は", "雨"]


def test_samples_count_their_seeds_from_the_requests_or_from_a_random_one() -> None:
    assert [each["seed"] for each in seeded({"seed": 7}, 3)] == [7, 8, 9]
    free = [each["seed"] for each in seeded({"temperature": 1}, 3)]
    assert free == [free[0], free[0] + 1, free[0] + 2]
    assert free[0] != seeded({}, 1)[0]["seed"]

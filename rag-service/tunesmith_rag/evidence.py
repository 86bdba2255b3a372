"""How likely it is that the chunks found answer the question: a logistic rule over four signals, or a cross-encoder.

The rule's coefficients are fitted on the tuning half of the project's question set by
`python -m benchmarks.documents.quality.fit`, which prints this table anew; `benchmarks/documents/quality/README.md`
says how well the rule tells questions that the documents answer from others, and what a threshold costs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_rag.terms import SharedTerms

COVERAGE_WEIGHT = 0.8
"""What covering all of a question's terms counts for beside a cosine similarity of 1; also of the word reranker."""

INTERCEPT = -6.89
COEFFICIENTS = {"similarity": 0.58, "known": 1.89, "identified": 3.85, "lead": 4.09}

_NEXT = 6


@dataclass(frozen=True)
class Thresholds:
    """From which evidence on a question is worth answering: by a small model, which invents where it does not know, and
    by a large one.
    """

    usual: float
    large: float


@dataclass(frozen=True)
class Evidence:
    """How well the chunks found answer the question, the threshold that must be reached, and what the score stands on.

    By the rule the score is the probability, from 0 to 1, if one question of two could be answered. `similarity` is
    the best cosine of a chunk and the question, `known` the share of the question's terms (by rarity) that stands
    anywhere in the store, `identified` whether all its terms with figures do (1 or 0), since of a code or a part number
    that is nowhere nothing is said, and `lead` how far the best chunk is ahead of the next five in similarity and
    coverage together. By a cross-encoder it is `relevance`, the best that it gave a chunk, on its own scale.
    """

    score: float
    threshold: float
    signals: dict[str, float]

    @property
    def sufficient(self) -> bool:
        """Whether the chunks are worth answering from."""
        return self.score >= self.threshold


def weigh(
    similarities: Sequence[Sequence[float]], coverages: Sequence[Sequence[float]], terms: SharedTerms, threshold: float
) -> Evidence:
    """Return the evidence of chunks for questions with these terms. Similarities (cosines) and coverages have a row a
    chunk, and in it a number a question.

    Each question is judged by itself, as the rule was fitted, and the one that the chunks answer best counts.
    """
    if not similarities:
        return _by_rule(dict.fromkeys(COEFFICIENTS, 0.0), threshold)
    columns = zip(zip(*similarities, strict=True), zip(*coverages, strict=True), strict=True)
    signals = [
        {"similarity": max(near), "known": known, "identified": float(identified), "lead": _lead(near, covered)}
        for (near, covered), known, identified in zip(columns, terms.known, terms.identified, strict=True)
    ]
    return max((_by_rule(one, threshold) for one in signals), key=lambda evidence: evidence.score)


def of_relevance(best: float, threshold: float) -> Evidence:
    """Return the evidence of chunks to the best of which a cross-encoder gave this score."""
    return Evidence(best, threshold, {"relevance": best})


def _by_rule(signals: dict[str, float], threshold: float) -> Evidence:
    total = INTERCEPT + sum(weight * signals[name] for name, weight in COEFFICIENTS.items())
    return Evidence(1 / (1 + math.exp(-total)), threshold, signals)


def _lead(similarities: Sequence[float], coverages: Sequence[float]) -> float:
    blended = sorted(map(blend, similarities, coverages), reverse=True)
    following = blended[1:_NEXT] or [0.0]
    return blended[0] - sum(following) / len(following)


def blend(similarity: float, coverage: float) -> float:
    """Return how well a chunk fits a question by meaning and by words together."""
    return similarity + COVERAGE_WEIGHT * coverage

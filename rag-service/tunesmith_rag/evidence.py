"""How likely it is that the chunks found answer the question: a logistic rule over four signals.

The coefficients are fitted on the tuning half of the project's question set by
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
class Evidence:
    """The probability that the documents answer the question, what it stands on, and the threshold it must reach.

    `similarity` is the best cosine of a chunk and the question, `known` the share of the question's terms (by rarity)
    that stands anywhere in the store, `identified` whether all its terms with figures do (1 or 0), since of a code or
    a part number that is nowhere nothing is said, and `lead` how far the best chunk is ahead of the next five in
    similarity and coverage together.
    """

    signals: dict[str, float]
    threshold: float

    @property
    def score(self) -> float:
        """The probability, from 0 to 1, if one question of two could be answered."""
        total = INTERCEPT + sum(weight * self.signals[name] for name, weight in COEFFICIENTS.items())
        return 1 / (1 + math.exp(-total))

    @property
    def sufficient(self) -> bool:
        """Whether the chunks are worth answering from."""
        return self.score >= self.threshold


def weigh(similarities: Sequence[float], coverages: Sequence[float], terms: SharedTerms, threshold: float) -> Evidence:
    """Return the evidence of chunks with these cosine similarities and coverages for questions with these terms; of
    several questions the one that the store knows best counts.
    """
    if not similarities:
        return Evidence(dict.fromkeys(COEFFICIENTS, 0.0), threshold)
    blended = sorted(map(blend, similarities, coverages), reverse=True)
    following = blended[1:_NEXT] or [0.0]
    signals = {
        "similarity": max(similarities),
        "known": max(terms.known),
        "identified": float(any(terms.identified)),
        "lead": blended[0] - sum(following) / len(following),
    }
    return Evidence(signals, threshold)


def blend(similarity: float, coverage: float) -> float:
    """Return how well a chunk fits a question by meaning and by words together."""
    return similarity + COVERAGE_WEIGHT * coverage
